#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/workspace.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "fleet/heartbeat_table.hpp"
#include "http/server/server.hpp"
#include "meta/object.hpp"
#include "server/leader_link.hpp"

/// The operator's own HTTP API (behaviour.md section 6). What it needs of the rest of the operator
/// arrives as functions.
namespace server {

/// A person or program other than an agent, as it came in.
struct Caller {
  std::string bearer_token;    ///< Empty: none.
  std::string client_subject;  ///< Of a verified client certificate, or empty.
  std::string peer;
};

enum class Verb { kGet, kCreate, kDelete };  ///< On DeclaredPlugins of the namespace.

struct AuthoriseRequest {
  Caller caller;
  Verb verb = Verb::kGet;
  std::string ns;  ///< Empty: all namespaces (the workspace is not known).
};

struct WorkspaceView {
  meta::ObjectKey key;
  std::string uid;
  api::BoxType box = api::BoxType::kExternal;
};

/// What the list of plugins says. `rows` are the tracking rows as last written.
struct PluginList {
  std::vector<api::PluginRow> rows;
  std::optional<base::WallTime> observed_time;  ///< When the box was last read.
  bool stale = false;                           ///< The box cannot be read.
  std::string cause;                            ///< Why it is stale.
};

struct Declaration {
  WorkspaceView workspace;
  std::string name;  ///< Plugin's name; empty: the source's default.
  std::string source;
  Caller caller;
};

/// The DeclaredPlugin that was made or is being deleted.
struct Declared {
  meta::ObjectKey key;
};

/// An open canonical tar.
struct ArtifactFile {
  int fd = -1;  ///< Handed over to the server.
  uint64_t size = 0;
  std::string digest;  ///< sha256:...
};

/// A named check; its function says what is wrong, or nothing.
struct Check {
  std::string name;
  std::function<std::optional<std::string>()> problem;  ///< Must not block.
  bool advisory = false;  ///< Its problem is shown and keeps nobody away: what runs works on.
};

struct BuildInfo {
  std::string version;
  std::string commit;
  std::string mode;  ///< cluster or embedded.
};

/// What the server needs of others. An empty function makes its route answer 503 `not_wired`. All
/// but `wake`, `review`, checks and `metrics` run on worker threads and may block, bounded in time.
struct ServerPorts {
  /// A report of this workspace matters: put its key into the work queue. Runs on an I/O thread,
  /// must not block.
  std::function<void(const meta::ObjectKey&)> wake;
  /// A token that nobody knows, of a form that somebody else may vouch for (a service account's):
  /// what its bearer is told while that is being found out, or cannot be; nothing: it is not of
  /// that form, or was denied. Must not block.
  std::function<std::optional<base::Error>(std::string_view token)> review;
  /// The artifact wanted for this workspace and plugin. kNotFound: not declared or not fetched yet;
  /// kForbidden: not entitled.
  std::function<base::Result<ArtifactFile>(const WorkspaceView&, const std::string& plugin)>
      open_artifact;
  /// kUnauthorized, kForbidden, kUnavailable (cannot be checked now).
  std::function<base::Status(const AuthoriseRequest&)> authorise;
  /// `id` is a UID or namespace.name. kNotFound.
  std::function<base::Result<WorkspaceView>(const std::string& id)> find_workspace;
  std::function<base::Result<PluginList>(const WorkspaceView&)> list_plugins;
  /// kInvalid (reason as a condition's: InvalidSource, ...), kForbidden with reason NotEntitled,
  /// kConflict or kAlreadyExists.
  std::function<base::Result<Declared>(const Declaration&)> declare_plugin;
  /// kNotFound: no DeclaredPlugin of that plugin names this workspace; kConflict: it is declared
  /// inline or by a selector.
  std::function<base::Result<Declared>(const Declaration&)> withdraw_plugin;
  std::vector<Check> health;             ///< /healthz
  std::vector<Check> ready;              ///< /readyz
  std::function<std::string()> metrics;  ///< Prometheus text.
  /// Whether the bearer of the token (empty: none was sent) may read it; null: whoever gets here.
  std::function<base::Status(const std::string& bearer_token)> may_scrape;
  BuildInfo build;
  LeaderLinkOptions leader = {};  ///< Where requests go that only the leader can answer.
};

/// Routes requests. Give Handlers() to http::Server::Start; it must outlive that server.
class OperatorServer {
 public:
  OperatorServer(fleet::HeartbeatTable& table, const base::Clock& clock, ServerPorts ports);
  ~OperatorServer();
  OperatorServer(const OperatorServer&) = delete;
  OperatorServer& operator=(const OperatorServer&) = delete;

  http::Handlers Handlers();
  /// Answers one request (what Handlers().handle calls).
  void Handle(http::ServerRequest&& request, std::unique_ptr<http::Responder> responder);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace server
