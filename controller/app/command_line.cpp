#include "app/command_line.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <thread>
#include <tuple>

#include "agent/agent.hpp"
#include "agent/box_helper.hpp"
#include "app/build_info.hpp"
#include "app/embedded.hpp"
#include "app/operator.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/program_files.hpp"
#include "base/thread_name.hpp"
#include "runtime/timed_wait.hpp"

namespace app {
namespace {

/// docs/reference/running.md
int ExitCodeOf(const base::Error& error) {
  if (error.reason == "PortInUse" || error.reason == "DataDirectoryLocked") return 3;
  for (const char* flag : {"BadLeaderElection", "BadAddress", "BadServingName"})
    if (error.reason == flag) return 2;
  if (error.reason == "LeaseLost") return 5;
  if (error.reason == "NotReady") return 6;
  for (const char* unusable : {"ReadOnly", "NoSpace", "Corrupt", "NewerSchema"})
    if (error.reason == unusable) return 4;
  return 1;
}

int Report(const base::Status& status) {
  if (status) return 0;
  base::LogError("stopped by an error",
                 {{"error", status.error().message}, {"reason", status.error().reason}});
  fmt::print(stderr, "workspace-operator: {}\n", status.error().message);
  return ExitCodeOf(status.error());
}

/// Runs `work` with a stop token that SIGINT and SIGTERM request; a second signal, or 10 s, ends
/// the process at once.
int RunUntilSignalled(const std::function<base::Status(std::stop_token)>& work) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const auto wait = [&signals](const timespec* limit) {
    int got = 0;
    do
      got = limit != nullptr ? ::sigtimedwait(&signals, nullptr, limit)
                             : ::sigwaitinfo(&signals, nullptr);
    while (got < 0 && errno == EINTR);
    return got > 0;
  };
  std::stop_source stop;
  std::atomic<bool> ended{false};
  std::jthread listener([&] {
    base::NameThread("signals");
    wait(nullptr);
    if (ended) return;
    stop.request_stop();
    const timespec limit{9, 500'000'000};
    const bool again = wait(&limit);
    if (ended) return;
    base::LogError(again ? "a second signal: leaving at once"
                         : "some part did not stop in time; leaving");
    ::_exit(1);
  });
  const int code = Report(work(stop.get_token()));
  if (code != 0)
    ::_exit(code);  // Parts that did not stop may still use what would be destroyed now.
  ended = true;
  ::pthread_kill(listener.native_handle(), SIGTERM);  // It waits for a signal.
  return code;
}

/// A number whose unit, range and default the help shows.
template <typename T>
void AddNumber(CLI::App& app, const char* name, T& value, const char* help,
               std::tuple<const char*, T, T> range) {
  const auto& [unit, low, high] = range;
  app.add_option(name, value, help)
      ->check(CLI::Range(low, high))
      ->option_text(fmt::format("{} from {} to {} [{}]", unit, low, high, value));
}

struct LogFlags {
  std::string level = "info";
  std::string format = "text";

  void Add(CLI::App& command) {
    command.add_option("--log-level", level, "Least level that is written")
        ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
        ->capture_default_str();
    command.add_option("--log-format", format, "Form of the log lines on stderr")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
  }
  void Use() const {
    base::SetLog(base::ParseLogLevel(level).value_or(base::LogLevel::kInfo),
                 format == "json" ? base::LogFormat::kJson : base::LogFormat::kText);
  }
};

/// Flags that several subcommands read into.
struct Flags {
  LogFlags log;
  EmbeddedOptions dev;
  OperatorOptions run;
  std::string kubeconfig, context;
  bool tls = false;
  std::string operator_namespace;
  server::CertificateOptions certificate;
  double certificate_seconds = 30 * 86400., authority_seconds = 3650 * 86400.;
  double overlap_seconds = 86400;
  agent::AgentOptions agent;
  double lease_seconds = 15, renew_seconds = 10, retry_seconds = 2;
  agent::BoxHelperOptions helper;
  std::string install_folder;
  double period_seconds = 30;
  double sync_seconds = 0;
  bool no_boot_install = false;
};

CLI::App* AddDev(CLI::App& app, Flags& flags) {
  CLI::App* dev = app.add_subcommand("dev",
                                     "Serve a Kubernetes API on this machine (SQLite, loopback "
                                     "HTTPS) and run the operator against it");
  dev->add_option("--data-dir", flags.dev.data_dir,
                  "Folder for database, kubeconfig, certificates and artifacts; made if missing")
      ->required();
  dev->add_option("--settings", flags.dev.settings_path,
                  "Operator settings (YAML); read again when it changes")
      ->check(CLI::ExistingFile);
  AddNumber(*dev, "--api-port", flags.dev.api_port,
            "TCP port of the Kubernetes API; 0: the last one, else any free one",
            {"port", 0, 65535});
  AddNumber(*dev, "--http-port", flags.dev.http_port,
            "TCP port of the operator's HTTP API (heartbeats); 0: the last one, else any free one",
            {"port", 0, 65535});
  dev->add_option("--crds", flags.dev.crds_folder,
                  "Folder of CRD YAML files instead of the built-in ones")
      ->check(CLI::ExistingDirectory);
  AddNumber(*dev, "--workers", flags.dev.workers, "Workspaces worked on at the same time, a count",
            {"count", 1, 64});
  flags.log.Add(*dev);
  return dev;
}

void AddTls(CLI::App& run, Flags& flags) {
  run.add_option("--operator-namespace", flags.operator_namespace,
                 "Namespace of the operator's own objects; default: the Pod's, or the context's");
  run.add_flag(
      "--tls", flags.tls,
      "Serve the HTTP API over TLS with a certificate of an own authority, kept in a Secret");
  run.add_option("--tls-secret", flags.certificate.secret,
                 "Secret of the operator's namespace that holds the authority; made if missing")
      ->capture_default_str();
  run.add_option("--tls-name", flags.certificate.names,
                 "DNS name or IP address that agents use; can be given several times")
      ->expected(1, -1);
  AddNumber(run, "--tls-certificate-seconds", flags.certificate_seconds,
            "Life of a serving certificate; renewed after two thirds",
            {"seconds", 10., 825 * 86400.});
  AddNumber(run, "--tls-authority-seconds", flags.authority_seconds,
            "Life of the authority; its successor is published after four fifths",
            {"seconds", 30., 7300 * 86400.});
  AddNumber(run, "--tls-overlap-seconds", flags.overlap_seconds,
            "How long a new authority is trusted before it signs", {"seconds", 1., 365 * 86400.});
}

void AddElection(CLI::App& run, Flags& flags) {
  ElectionOptions& election = flags.run.election;
  election.on = true;
  run.add_flag("--leader-election,!--no-leader-election", election.on,
               "Contend for a Lease, so that of several replicas one works and the others stand by")
      ->default_str("true");
  run.add_option("--lease-name", election.name, "Name of the Lease")->capture_default_str();
  run.add_option("--lease-namespace", election.ns,
                 "Namespace of the Lease; default: --operator-namespace");
  AddNumber(run, "--lease-seconds", flags.lease_seconds,
            "Seconds without a renewal after which another replica takes over (whole)",
            {"seconds", 1.0, 3600.0});
  AddNumber(run, "--lease-renew-seconds", flags.renew_seconds,
            "Seconds without a renewal after which the leader writes nothing more and ends "
            "(exit code 5)",
            {"seconds", 0.1, 3600.0});
  AddNumber(run, "--lease-retry-seconds", flags.retry_seconds,
            "Seconds between renewals, and at most between looks of those who stand by",
            {"seconds", 0.05, 600.0});
  run.add_option("--advertise-url", election.advertise_url,
                 "URL at which other replicas reach this one's HTTP API; default: --http-address "
                 "and port, or $POD_IP when that address means all");
}

CLI::App* AddRun(CLI::App& app, Flags& flags) {
  CLI::App* run = app.add_subcommand(
      "run", "Run the operator against an existing Kubernetes API (kubeconfig or in-cluster)");
  run->add_option("--kubeconfig", flags.kubeconfig,
                  "Kubeconfig file; default: $KUBECONFIG, in-cluster, ~/.kube/config");
  run->add_option("--context", flags.context,
                  "Context of the kubeconfig; default: its current one");
  run->add_option("--namespace", flags.run.ns, "Watch this namespace only; default: all");
  run->add_option("--data-dir", flags.run.data_dir, "Folder for artifacts; made if missing")
      ->required();
  run->add_option("--settings", flags.run.settings_path,
                  "Operator settings (YAML); read again when it changes, taken when it appears");
  // Given twice where an overlay adds its own to the Deployment's.
  run->add_option("--agent-image", flags.run.defaults.agent_image,
                  "Image that holds this program, for the init container of managed Pods; the last "
                  "one counts, the setting boxes.agentImage goes before it")
      ->take_last();
  run->add_option("--agent-url", flags.run.defaults.agent_url,
                  "URL of the operator's HTTP API as Pods see it; the last one counts, the setting "
                  "boxes.agentURL goes before it")
      ->take_last();
  run->add_option("--http-address", flags.run.address,
                  "IP address of the operator's HTTP API; `::`: all of IPv6 and IPv4, or of IPv4 "
                  "where there is no IPv6")
      ->capture_default_str();
  AddNumber(*run, "--http-port", flags.run.port,
            "TCP port of the operator's HTTP API; 0: any free one", {"port", 0, 65535});
  AddNumber(*run, "--http-connections", flags.run.connections,
            "Connections of the HTTP API at the same time, about 25 kB each with TLS; over it the "
            "longest idle one is closed for each new one",
            {"count", 16, 100'000});
  run->add_flag(
      "--metrics-authorization", flags.run.metrics_authorization,
      "Give /metrics only to who sends a bearer token of the Kubernetes API and may `get` "
      "the path /metrics there (ClusterRole workspace-operator-metrics-reader)");
  AddNumber(*run, "--workers", flags.run.workers, "Workspaces worked on at the same time, a count",
            {"count", 1, 64});
  AddNumber(*run, "--sync-seconds", flags.sync_seconds,
            "End with exit code 6 when the caches are not filled by then (kinds or permissions "
            "missing); 0: wait, not ready, and say why",
            {"seconds", 0., 86400.});
  AddTls(*run, flags);
  AddElection(*run, flags);
  flags.log.Add(*run);
  return run;
}

CLI::App* AddAgent(CLI::App& app, Flags& flags) {
  agent::AgentOptions& o = flags.agent;
  CLI::App* agent = app.add_subcommand(
      "agent",
      "Run inside a box: install plugins at boot, run the runtime process, send heartbeats");
  agent->add_option("--root", o.root, "The box's root folder; plugins are in ROOT/configs/plugins")
      ->required();
  agent
      ->add_option("--operator-url", o.operator_url,
                   "URL of the operator's HTTP API, e.g. https://operator:8443")
      ->required();
  agent->add_option("--workspace", o.workspace, "The workspace's UID or namespace.name")
      ->required();
  agent->add_option(
      "--box-identity", o.box_identity,
      "Which box this is: in a Pod pod:UID, so that no other Pod's agent is taken for "
      "this one's; default: device and inode of ROOT");
  agent->add_option("--ca-file", o.ca_file,
                    "PEM file of the certificate authority to trust; default: the system's");
  agent->add_option("--token-file", o.token_file,
                    "File of the instance token; default: ROOT/configs/.molecule/token");
  agent->add_option("--runtime", o.runtime_name,
                    "Name of the runtime, told to the operator, e.g. claude-code");
  agent->add_option("--settings-file", o.settings_path,
                    "The runtime's settings file; default: ROOT/configs/settings.json");
  agent->add_option("--report-file", o.report_path,
                    "What the runtime writes when it has loaded; default: "
                    "ROOT/configs/.molecule/runtime-report.json");
  agent->add_option(
      "--status-file", o.status_path,
      "What the runtime keeps up to date; default: ROOT/configs/.molecule/runtime-status.json");
  agent->add_option("--runtime-log", o.runtime_log,
                    "File for the runtime's output; default: the agent's own output");
  agent->add_option(
      "--management-plugin", o.management_plugin,
      "Name of the management plugin (Platform workspaces); default: as the operator says");
  agent
      ->add_option("--period", flags.period_seconds,
                   "Seconds between heartbeats until the operator says otherwise")
      ->check(CLI::Range(0.2, 3600.0))
      ->capture_default_str();
  agent->add_flag("--no-boot-install", flags.no_boot_install, "Install nothing at boot");
  agent->add_flag(
      "--pull", o.pull,
      "Fetch and remove plugins after boot too: for boxes that the operator cannot reach");
  agent->add_option("runtime-command", o.runtime_argv,
                    "Program and arguments of the runtime process, after --; default: none");
  flags.log.Add(*agent);
  return agent;
}

CLI::App* AddBoxHelper(CLI::App& app, Flags& flags) {
  CLI::App* helper = app.add_subcommand(
      "box-helper",
      "Answer one request of the operator about the plugins of this box on stdin and stdout; the "
      "operator runs it inside boxes");
  helper
      ->add_option("--root", flags.helper.root,
                   "The box's root folder; plugins are in ROOT/configs/plugins")
      ->required();
  return helper;
}

CLI::App* AddInstallAgent(CLI::App& app, Flags& flags) {
  CLI::App* install = app.add_subcommand(
      "install-agent",
      "Copy this program with its loader and libraries into a folder, where it runs whatever C "
      "library is there; an init container of managed Pods does it");
  install->add_option("--to", flags.install_folder, "The folder; made if missing")->required();
  return install;
}

std::string VersionText() {
  return fmt::format("workspace-operator {} ({})", kVersion,
                     kCommit[0] == '\0' ? "unknown commit" : kCommit);
}

int RunAgent(Flags& flags) {
  flags.agent.version = kVersion;
  flags.agent.boot_install = !flags.no_boot_install;
  flags.agent.period = base::Millis{static_cast<int64_t>(flags.period_seconds * 1000)};
  return agent::RunUntilSignalled(flags.agent);
}

server::CertificateOptions CertificateOptionsOf(const Flags& flags) {
  const auto seconds = [](double value) { return base::Seconds{static_cast<int64_t>(value)}; };
  server::CertificateOptions options = flags.certificate;
  options.ns = flags.operator_namespace;
  options.policy = {seconds(flags.authority_seconds), seconds(flags.overlap_seconds),
                    seconds(flags.certificate_seconds)};
  return options;
}

/// Programs that are started elsewhere are told of it. Without a working folder it stays as it is.
void MakeAbsolute(std::string& path) {
  std::error_code failed;
  if (auto whole = std::filesystem::absolute(path, failed); !failed) path = whole.string();
}

int RunCluster(Flags& flags) {
  auto config = kube::LoadConfig({flags.kubeconfig, flags.context});
  if (!config) return Report(std::move(config).error());
  MakeAbsolute(flags.run.data_dir);
  if (auto made = base::MakeDirectories(flags.run.data_dir, 0700); !made) {
    Report(made);
    return 4;  // Whatever hinders it.
  }
  if (flags.operator_namespace.empty()) flags.operator_namespace = config->default_namespace;
  if (flags.tls) {
    flags.run.tls = CertificateOptionsOf(flags);
    if (auto names = server::CheckNames(*flags.run.tls); !names) return Report(names);
  }
  flags.run.api = *std::move(config);
  flags.run.mode = "cluster";
  const auto millis = [](double seconds) {
    return base::Millis{static_cast<int64_t>(seconds * 1000)};
  };
  flags.run.start_limit =
      flags.sync_seconds == 0 ? runtime::kLongestDelay : millis(flags.sync_seconds);
  ElectionOptions& election = flags.run.election;
  if (election.ns.empty()) election.ns = flags.operator_namespace;
  election.lease_duration = base::Seconds{static_cast<int64_t>(std::ceil(flags.lease_seconds))};
  election.renew_deadline = millis(flags.renew_seconds);
  election.retry_period = millis(flags.retry_seconds);
  flags.run.pods = true;
  flags.run.on_ready = [](const std::string& url) { base::LogInfo("ready", {{"url", url}}); };
  return RunUntilSignalled([&](std::stop_token stop) { return RunOperator(flags.run, stop); });
}

}  // namespace

int Main(int argc, char** argv) {
  CLI::App app("workspace-operator: keeps the plugins of agent workspaces as declared",
               "workspace-operator");
  app.require_subcommand(1);
  app.set_version_flag("--version", VersionText(), "Print version and commit");
  Flags flags;
  const CLI::App* dev = AddDev(app, flags);
  const CLI::App* run = AddRun(app, flags);
  const CLI::App* agent = AddAgent(app, flags);
  const CLI::App* helper = AddBoxHelper(app, flags);
  const CLI::App* install = AddInstallAgent(app, flags);
  app.add_subcommand("version", "Print version and commit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const auto unknown = app.remaining();
    if (app.get_subcommands().empty() && !unknown.empty()) {
      fmt::print(stderr, "There is no subcommand `{}`\nRun with --help for more information.\n",
                 unknown.front());
      return 2;
    }
    // What is missing is often misspelt: the library then names only what is missing.
    if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && app.remaining_size(true) > 0)
      fmt::print(stderr, "Not understood: {}\n", fmt::join(app.remaining(true), " "));
    return app.exit(error) == 0 ? 0 : 2;
  }
  flags.log.Use();
  if (dev->parsed()) {
    MakeAbsolute(flags.dev.data_dir);
    return RunUntilSignalled([&](std::stop_token stop) { return RunEmbedded(flags.dev, stop); });
  }
  if (run->parsed()) return RunCluster(flags);
  if (agent->parsed()) return RunAgent(flags);
  if (install->parsed()) return Report(base::CopyOwnProgram(flags.install_folder));
  if (helper->parsed()) return agent::RunBoxHelper(flags.helper);
  fmt::print("{}\n", VersionText());
  return 0;
}

}  // namespace app
