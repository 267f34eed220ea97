#pragma once

#include "app/cluster/reviews.hpp"
#include "reconcile/dependencies.hpp"
#include "server/operator_server.hpp"

namespace app {

/// The server's ports for people and programs: who may, which workspace, list, declare, withdraw,
/// open. Fills those members of `ports`. `on` and `reviews` must outlive the server.
void ConnectPluginRoutes(server::ServerPorts& ports, const reconcile::Dependencies& on,
                         Reviews& reviews);

}  // namespace app
