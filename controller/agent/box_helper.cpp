#include "agent/box_helper.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/file.hpp"
#include "base/sha256.hpp"
#include "bundle/folder.hpp"
#include "bundle/installed/installed_plugins.hpp"
#include "protocol/box_frames.hpp"

namespace agent {
namespace {

using protocol::BoxOp;
using protocol::BoxReply;
using protocol::BoxRequest;
using protocol::FrameKind;

constexpr int kBroken = 2;
constexpr int kUnanswered = 4;
constexpr uint64_t kTarBytes = 1ull << 30;

base::Status WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::ErrnoError(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

const char* PresenceName(bundle::Found found) {
  return found == bundle::Found::kPresent  ? "Present"
         : found == bundle::Found::kAbsent ? "Absent"
                                           : "Unknown";
}

protocol::BoxPlugin ToWire(const bundle::InstalledPlugin& plugin) {
  protocol::BoxPlugin out;
  out.name = plugin.name;
  out.presence = PresenceName(plugin.found);
  out.cause = plugin.cause;
  out.digest = plugin.digest;
  out.reload_none = plugin.reload_none;
  out.mcp_merged = plugin.mcp_merged;
  if (plugin.receipt) {
    out.has_receipt = true;
    out.revision = plugin.receipt->revision;
    out.receipt_digest = plugin.receipt->digest;
    out.activated_boot_id = plugin.receipt->activated_boot_id;
    out.boot_installed = plugin.receipt->boot_installed;
    out.activated_time = plugin.receipt->activated_time;
  }
  return out;
}

/// One file beside the plugins, without a name from the start: it is gone when the process ends,
/// however it ends.
base::Result<base::UniqueFd> MakeSpool(const std::string& root) {
  auto box = bundle::Folder::Open(root);
  if (!box) return box.error();
  auto folder = box->Sub("configs/.molecule/incoming", true);
  if (!folder) return folder.error();
  const std::string name = "helper-" + base::RandomUuid();
  auto fd = folder->Create(name, 0600);
  if (!fd) return fd.error();
  if (auto gone = folder->Unlink(name); !gone) return gone.error();
  return fd;
}

/// The tar that is being received.
class Incoming {
 public:
  Incoming(const std::string& root, const protocol::BoxDelivery& what) : what_(what) {
    if (what.size > kTarBytes) {
      error_ = base::MakeError(
          base::Code::kInvalid,
          fmt::format("plugin {}: a tar of {} bytes is over the limit", what.name, what.size),
          "TooLarge");
      return;
    }
    auto spool = MakeSpool(root);
    if (spool)
      fd_ = *std::move(spool);
    else
      error_ = spool.error();
  }

  /// What cannot be kept is read all the same: the plugins after it shall arrive.
  void Take(std::string_view bytes) {
    received_ += bytes.size();
    if (error_ || received_ > what_.size) return;
    if (auto written = WriteAll(fd_.Get(), bytes); !written) error_ = written.error();
  }

  std::optional<base::Error> Stage(bundle::InstalledPlugins& installed) {
    if (!error_ && received_ != what_.size)
      error_ = base::MakeError(base::Code::kInvalid,
                               fmt::format("plugin {}: {} bytes came, {} were announced",
                                           what_.name, received_, what_.size),
                               "DigestMismatch");
    if (error_) return error_;
    const auto staged = installed.Stage({what_.name, what_.source, what_.revision, what_.digest,
                                         fmt::format("/proc/self/fd/{}", fd_.Get())});
    return staged ? std::nullopt : std::optional(staged.error());
  }

 private:
  const protocol::BoxDelivery& what_;
  base::UniqueFd fd_;
  uint64_t received_ = 0;
  std::optional<base::Error> error_;
};

std::optional<base::Error> ErrorOf(const base::Status& status) {
  return status ? std::nullopt : std::optional(status.error());
}

class Helper {
 public:
  explicit Helper(const BoxHelperOptions& options)
      : options_(options), configs_(options.root == "/" ? "/configs" : options.root + "/configs") {}

  int Run() {
    protocol::FrameReader reader;
    std::string buffer(64 << 10, '\0');
    while (!done_) {
      const ssize_t n = ::read(options_.input, buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Broken("the input ended before the request did");
      const auto taken = reader.Push(
          {buffer.data(), static_cast<size_t>(n)},
          [this](FrameKind kind, std::string_view payload) { return Take(kind, payload); });
      if (!taken) return Broken(taken.error().message);
    }
    std::string frame;
    protocol::AppendFrame(frame, FrameKind::kReply, protocol::EncodeBoxReply(reply_));
    return WriteAll(options_.output, frame) ? 0 : kUnanswered;
  }

 private:
  static int Broken(const std::string& what) {
    fmt::print(stderr, "workspace-operator box-helper: {}\n", what);
    return kBroken;
  }

  static base::Status Unexpected() {
    return base::MakeError(base::Code::kInvalid, "a frame that does not belong here", "BadFrame");
  }

  base::Status Take(FrameKind kind, std::string_view payload) {
    if (done_) return Unexpected();
    if (!installed_) {
      if (kind != FrameKind::kRequest) return Unexpected();
      auto request = protocol::DecodeBoxRequest(payload);
      if (!request) return request.error();
      return Begin(*std::move(request));
    }
    if (kind == FrameKind::kData) {
      incoming_->Take(payload);
      return {};
    }
    if (kind != FrameKind::kEnd) return Unexpected();
    const std::string& name = request_.deliveries[reply_.results.size()].name;
    reply_.results.push_back({name, incoming_->Stage(*installed_)});
    Expect();
    return {};
  }

  base::Status Begin(BoxRequest request) {
    request_ = std::move(request);
    installed_.emplace(bundle::InstalledPlugins::Options{.configs_path = configs_,
                                                         .settings_file = request_.settings_file,
                                                         .limits = {},
                                                         .without_exchange = false,
                                                         .lock_deadline = base::Millis{20'000}},
                       std::make_shared<bundle::DigestCache>(1));
    if (request_.op == BoxOp::kDeliver) {
      Expect();
    } else {
      Do();
      done_ = true;
    }
    return {};
  }

  /// The next tar, or the end.
  void Expect() {
    incoming_.reset();
    const size_t next = reply_.results.size();
    done_ = next == request_.deliveries.size();
    if (!done_) incoming_.emplace(options_.root, request_.deliveries[next]);
  }

  void Do() {
    switch (request_.op) {
      case BoxOp::kProbe:
        return Probe();
      case BoxOp::kAdopt:
        for (const auto& d : request_.deliveries)
          reply_.results.push_back(
              {d.name, ErrorOf(installed_->Adopt({d.name, d.source, d.revision, d.digest, ""}))});
        return;
      case BoxOp::kActivate:
        for (const auto& name : request_.names)
          reply_.results.push_back({name, ErrorOf(installed_->Activate(name, request_.boot_id))});
        return;
      case BoxOp::kRemove:
        for (const auto& name : request_.names)
          reply_.results.push_back({name, ErrorOf(installed_->Remove(name, request_.boot_id))});
        return;
      case BoxOp::kClearRemovals:
        reply_.error = ErrorOf(installed_->ClearRemovals(request_.boot_id));
        return;
      case BoxOp::kWriteToken:
        reply_.error = ErrorOf(installed_->WriteToken(request_.token));
        return;
      case BoxOp::kAgent: {
        const auto running = bundle::IsAgentRunning(configs_);
        if (running)
          reply_.agent_running = *running;
        else
          reply_.error = running.error();
        return;
      }
      case BoxOp::kDeliver:
        return;  // Take does it, tar by tar.
    }
  }

  void Probe() {
    for (const auto& d : request_.deliveries)  // What comes of it is seen below.
      (void)installed_->Adopt({d.name, d.source, d.revision, d.digest, ""});
    const auto found = installed_->Probe(request_.names);
    if (!found) {
      reply_.error = found.error();
      return;
    }
    for (const auto& plugin : found->plugins) reply_.plugins.push_back(ToWire(plugin));
    for (const auto& tombstone : found->removals)
      reply_.removals.push_back({tombstone.name, tombstone.boot_id, tombstone.removed_time});
  }

  const BoxHelperOptions& options_;
  const std::string configs_;
  BoxRequest request_;
  std::optional<bundle::InstalledPlugins> installed_;
  std::optional<Incoming> incoming_;
  BoxReply reply_;
  bool done_ = false;
};

}  // namespace

int RunBoxHelper(const BoxHelperOptions& given) {
  BoxHelperOptions options = given;
  while (options.root.size() > 1 && options.root.ends_with('/')) options.root.pop_back();
  if (!options.root.starts_with('/')) {
    fmt::print(stderr, "workspace-operator box-helper: --root must be an absolute path\n");
    return kBroken;
  }
  ::signal(SIGPIPE, SIG_IGN);  // NOLINT: a write to a closed pipe is an error value
  ::alarm(static_cast<unsigned>(options.deadline.count()));
  return Helper(options).Run();
}

}  // namespace agent
