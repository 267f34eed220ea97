#pragma once

#include <memory>
#include <string>

#include "kube/client.hpp"
#include "runtime/event_recorder.hpp"
#include "runtime/informer/list_watch.hpp"
#include "runtime/lease_lock.hpp"

namespace app {

/// The runtime's ports over the Kubernetes client. `client` must outlive what is made.
std::unique_ptr<runtime::ListWatch> MakeListWatch(kube::Client& client, kube::Resource resource,
                                                  std::string ns, std::string label_selector = {});
std::unique_ptr<runtime::EventSink> MakeEventSink(kube::Client& client);
std::unique_ptr<runtime::LeaseLock> MakeLeaseLock(kube::Client& client, std::string ns,
                                                  std::string name);

}  // namespace app
