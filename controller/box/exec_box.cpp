#include "box/exec_box.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/failpoint.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/program_files.hpp"
#include "base/sha256.hpp"
#include "box/exec_scripts.hpp"
#include "bundle/canonical_tar.hpp"
#include "bundle/tree_check.hpp"

namespace box {
namespace {

using protocol::BoxOp;
using protocol::BoxReply;
using protocol::BoxRequest;
using protocol::FrameKind;

constexpr base::Millis kShort{40'000};     ///< Requests without a tar.
constexpr base::Millis kLongest{540'000};  ///< The helper gives up after 600 s.
constexpr uint64_t kLeastBytesPerMilli = 256;
constexpr size_t kBoxesRemembered = 200'000;
constexpr int kNotExecutable = 126;
constexpr int kNoSuchProgram = 127;

bool SaysNoSpace(std::string_view text) {
  return text.find("No space left on device") != text.npos ||
         text.find("Disk quota exceeded") != text.npos;
}

base::Error Stopped(const char* what) {
  return base::MakeError(base::Code::kCancelled, fmt::format("{}: stopped", what));
}

base::Error BadReply(const std::string& what) {
  return base::MakeError(base::Code::kUnavailable, "the box's helper answered wrongly: " + what,
                         "BadReply");
}

Presence PresenceOf(const std::string& word) {
  return word == "Present"  ? Presence::kPresent
         : word == "Absent" ? Presence::kAbsent
                            : Presence::kUnknown;
}

PluginProbe FromWire(const protocol::BoxPlugin& plugin) {
  return {plugin.name,           PresenceOf(plugin.presence),
          plugin.cause,          plugin.has_receipt,
          plugin.revision,       plugin.digest,
          plugin.receipt_digest, plugin.activated_boot_id,
          plugin.reload_none,    plugin.mcp_merged,
          plugin.boot_installed, plugin.activated_time};
}

/// A probe that records what it finds writes receipts.
base::Effect EffectOf(const BoxRequest& request) {
  const bool reads =
      request.op == BoxOp::kAgent || (request.op == BoxOp::kProbe && request.deliveries.empty());
  return reads ? base::Effect::kReads : base::Effect::kChanges;
}

/// Exit codes and errors that say "not this program": the next way is tried.
bool IsMissing(const base::Result<ExecOutcome>& outcome) {
  if (!outcome) return outcome.error().reason == "ProgramNotFound";
  return outcome->exit_code == kNotExecutable || outcome->exit_code == kNoSuchProgram;
}

std::string StandardError(const ExecOutcome& outcome) {
  std::string text = outcome.error.substr(0, 300);
  while (text.ends_with('\n')) text.pop_back();
  return bundle::Printable(text);
}

/// The files of some deliveries as frames, one after the other, read while they are sent.
class TarFrames {
 public:
  TarFrames(std::string request, std::vector<Delivery> deliveries)
      : first_(std::move(request)), deliveries_(std::move(deliveries)) {}

  base::Result<std::string> Next() {
    std::string out = std::exchange(first_, std::string());
    if (!out.empty() || at_ == deliveries_.size()) return out;
    if (!fd_.Valid()) {
      fd_ = base::UniqueFd(::open(deliveries_[at_].tar_path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd_.Valid()) return base::ErrnoError(errno, "open " + deliveries_[at_].tar_path);
    }
    std::string piece(protocol::kBoxDataBytes, '\0');
    const ssize_t n = ::read(fd_.Get(), piece.data(), piece.size());
    if (n < 0) return base::ErrnoError(errno, "read " + deliveries_[at_].tar_path);
    piece.resize(static_cast<size_t>(n));
    protocol::AppendFrame(out, n > 0 ? FrameKind::kData : FrameKind::kEnd, piece);
    if (n == 0) {
      fd_.Reset();
      ++at_;
    }
    return out;
  }

 private:
  std::string first_;
  std::vector<Delivery> deliveries_;
  size_t at_ = 0;
  base::UniqueFd fd_;
};

/// This program as a tar, made while it is sent: one file is in memory at a time.
class ProgramTar {
 public:
  explicit ProgramTar(std::vector<base::ProgramFile> files)
      : files_(std::move(files)), writer_([this](std::string_view bytes) -> base::Status {
          pending_ += bytes;
          return {};
        }) {}

  uint64_t Bytes() const {
    std::vector<bundle::FileEntry> entries;
    for (const base::ProgramFile& file : files_) entries.push_back(EntryOf(file));
    return bundle::TarBytes(entries);
  }

  base::Result<std::string> Next() {
    while (sent_ == pending_.size()) {
      pending_.clear();
      sent_ = 0;
      if (at_ > files_.size()) return std::string();
      if (auto more = Fill(); !more) return more.error();
      ++at_;
    }
    std::string piece = pending_.substr(sent_, protocol::kBoxDataBytes);
    sent_ += piece.size();
    return piece;
  }

 private:
  static bundle::FileEntry EntryOf(const base::ProgramFile& file) {
    return {file.name, file.size, true};
  }

  base::Status Fill() {
    if (at_ == files_.size()) {
      auto end = writer_.Finish();
      return end ? base::Status{} : base::Status{end.error()};
    }
    auto bytes = base::ReadFile(files_[at_].path, 512u << 20);
    if (!bytes) return bytes.error();
    if (auto ok = writer_.Begin(EntryOf(files_[at_])); !ok) return ok;
    return writer_.Write(*bytes);
  }

  std::vector<base::ProgramFile> files_;
  std::string pending_;
  bundle::TarWriter writer_;
  size_t sent_ = 0;
  size_t at_ = 0;
};

base::Result<uint64_t> FileSize(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return base::ErrnoError(errno, "look at " + path);
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

std::optional<size_t> HelperMemory::Find(const std::string& box) const {
  const std::lock_guard lock(mutex_);
  const auto found = ways_.find(box);
  return found == ways_.end() ? std::nullopt : std::optional(found->second);
}

void HelperMemory::Store(const std::string& box, size_t way) {
  const std::lock_guard lock(mutex_);
  if (ways_.size() >= kBoxesRemembered) ways_.clear();
  ways_[box] = way;
}

/// A request, and the tars that follow it.
struct ExecBox::Question {
  BoxRequest request;
  std::vector<Delivery> tars = {};
  base::Millis deadline = kShort;
  /// Without it, kNotFound with reason HelperAbsent where there is no helper yet.
  bool worth_a_helper = true;
};

std::string ExecBox::OwnFolder() const {
  return (options_.root == "/" ? "" : options_.root) + "/configs/.molecule";
}

std::string ExecBox::HelperFolder() const { return OwnFolder() + "/helper"; }

base::Result<BoxReply> ExecBox::AskOne(const std::vector<std::string>& helper,
                                       const Question& question, std::stop_token stop) {
  std::string frame;
  protocol::AppendFrame(frame, FrameKind::kRequest, protocol::EncodeBoxRequest(question.request));
  auto frames = std::make_shared<TarFrames>(std::move(frame), question.tars);
  ExecCall call{.argv = helper,
                .input = [frames] { return frames->Next(); },
                .output_limit = protocol::kBoxReplyBytes + (128 << 10),
                .deadline = question.deadline,
                .effect = EffectOf(question.request),
                .stop = stop};
  call.argv.insert(call.argv.end(), {"box-helper", "--root", options_.root});
  auto outcome = channel_->Run(call);
  if (IsMissing(outcome))
    return base::MakeError(base::Code::kNotFound,
                           fmt::format("the box has no usable {}", helper.front()),
                           "ProgramNotFound");
  if (!outcome) return std::move(outcome).error();
  std::optional<std::string> reply;
  protocol::FrameReader reader;
  const auto read =
      reader.Push(outcome->output, [&](FrameKind kind, std::string_view payload) -> base::Status {
        if (kind != FrameKind::kReply || reply)
          return BadReply("a frame that does not belong here");
        reply = std::string(payload);
        return {};
      });
  if (outcome->exit_code != 0 || !reply)
    return base::MakeError(
        base::Code::kUnavailable,
        fmt::format("the box's helper ended with {} and {}: {}", outcome->exit_code,
                    reply ? "a reply" : "no reply", StandardError(*outcome)),
        "HelperFailed");
  if (!read) return BadReply(read.error().message);
  return protocol::DecodeBoxReply(*reply);
}

base::Status ExecBox::BringHelper(std::stop_token stop) {
  auto files = base::OwnProgramFiles();
  if (!files) return files.error();
  auto tar = std::make_shared<ProgramTar>(*std::move(files));
  const uint64_t total = tar->Bytes();
  base::LogInfo("bringing the helper into a box that has none",
                {{"box", options_.memory_key}, {"bytes", std::to_string(total)}});
  auto outcome = channel_->Run(
      {.argv = {"sh", "-c", kBringScript, "sh", HelperFolder(), base::OwnProgramId(),
                std::to_string(total), base::RandomUuid()},
       .input = [tar] { return tar->Next(); },
       .output_limit = 64 << 10,
       .deadline = std::min(kLongest, kShort + base::Millis(total / kLeastBytesPerMilli)),
       .stop = stop});
  if (!outcome && outcome.error().reason != "ProgramNotFound") return std::move(outcome).error();
  if (outcome && outcome->exit_code == 0) return {};
  if (outcome && SaysNoSpace(outcome->error))
    return base::MakeError(
        base::Code::kInvalid,  // No repetition makes room: it is for a person, as below.
        fmt::format("the box has no room for the helper ({} MiB) in {}; make the volume at "
                    "/configs larger, or put workspace-operator into the image: {}",
                    (total >> 20) + 1, HelperFolder(), StandardError(*outcome)),
        "NoSpace");
  return base::MakeError(
      base::Code::kInvalid,
      fmt::format(
          "the box has neither workspace-operator nor a POSIX shell with tar that can bring "
          "it to {}; add one of them to its image: {}",
          HelperFolder(), outcome ? StandardError(*outcome) : "no sh"),
      "HelperUnavailable");
}

/// Of a box without a helper: whether there is anything in it that a helper would look after.
base::Result<bool> ExecBox::HasOurs(std::stop_token stop) {
  auto outcome = channel_->Run({.argv = {"sh", "-c", kHasOursScript, "sh", OwnFolder()},
                                .output_limit = 4 << 10,
                                .deadline = kShort,
                                .effect = base::Effect::kReads,
                                .stop = stop});
  // Without a shell nobody can have brought anything.
  if (IsMissing(outcome)) return false;
  if (!outcome) return std::move(outcome).error();
  if (outcome->exit_code == 0) return !outcome->output.starts_with("no");
  return base::MakeError(base::Code::kUnavailable,
                         fmt::format("look for receipts in {} of the box: sh ended with {}: {}",
                                     OwnFolder(), outcome->exit_code, StandardError(*outcome)),
                         "HelperFailed");
}

base::Status ExecBox::WriteTokenByShell(const std::string& token, std::stop_token stop) {
  auto outcome = channel_->Run(
      {.argv = {"sh", "-c", kTokenScript, "sh", OwnFolder(), std::to_string(token.size())},
       .input = [left = token]() mutable -> base::Result<std::string> {
         return std::exchange(left, std::string());
       },
       .output_limit = 4 << 10,
       .deadline = kShort,
       .stop = stop});
  if (!outcome && outcome.error().reason != "ProgramNotFound") return std::move(outcome).error();
  if (outcome && outcome->exit_code == 0) return {};
  return base::MakeError(
      base::Code::kInvalid,
      fmt::format("the box has neither workspace-operator nor a POSIX shell that can write the "
                  "agent's token to {}/token: {}",
                  OwnFolder(), outcome ? StandardError(*outcome) : "no sh"),
      "HelperUnavailable");
}

base::Status ExecBox::TakeBackByShell(std::stop_token stop) {
  if (stop.stop_requested()) return Stopped("take the token out of a box");
  if (auto may = MayRun(stop); !may) return may;
  auto outcome = channel_->Run({.argv = {"sh", "-c", kTakeBackScript, "sh", OwnFolder()},
                                .output_limit = 4 << 10,
                                .deadline = kShort,
                                .stop = stop});
  if (!outcome) return std::move(outcome).error();
  if (outcome->exit_code == 0) return {};
  return base::MakeError(base::Code::kInternal,
                         fmt::format("remove {}/token: {}", OwnFolder(), StandardError(*outcome)));
}

/// Tries the way that worked last, then all in order, then brings the helper.
base::Result<BoxReply> ExecBox::Ask(Question question, std::stop_token stop) {
  if (stop.stop_requested()) return Stopped("ask a box");
  if (auto may = MayRun(stop); !may) return std::move(may).error();
  question.request.settings_file = options_.settings_file;
  auto ways = options_.helpers;
  const std::string folder = HelperFolder() + "/" + base::OwnProgramId();
  if (options_.bring_helper) ways.push_back(base::RunProgramArgv(folder));
  const auto remember = [&](size_t way) {
    if (options_.memory) options_.memory->Store(options_.memory_key, way);
  };
  const auto known = options_.memory ? options_.memory->Find(options_.memory_key) : std::nullopt;
  if (known && *known < ways.size()) {
    auto reply = AskOne(ways[*known], question, stop);
    if (reply || reply.error().reason != "ProgramNotFound") return reply;
  }
  for (size_t way = 0; way < ways.size(); ++way) {
    auto reply = AskOne(ways[way], question, stop);
    if (!reply && reply.error().reason == "ProgramNotFound") continue;
    if (reply) remember(way);
    return reply;
  }
  if (!options_.bring_helper)
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("the box has no {}", fmt::join(ways.front(), " ")),
                           "HelperUnavailable");
  if (!question.worth_a_helper)
    return base::MakeError(base::Code::kNotFound, "the box has no helper", "HelperAbsent");
  if (auto brought = BringHelper(stop); !brought) return brought.error();
  auto reply = AskOne(ways.back(), question, stop);
  if (reply) remember(ways.size() - 1);
  if (!reply && reply.error().reason == "ProgramNotFound")
    return base::MakeError(base::Code::kInvalid,
                           fmt::format("the helper that was brought to {} cannot be run there: is "
                                       "the volume mounted noexec, or is it another architecture?",
                                       folder),
                           "HelperUnavailable");
  return reply;
}

/// A question whose answer has one result a name, in that order.
base::Result<std::vector<StepResult>> ExecBox::AskSteps(Question question,
                                                        const std::vector<std::string>& names,
                                                        std::stop_token stop) {
  auto reply = Ask(std::move(question), stop);
  if (!reply) return std::move(reply).error();
  if (reply->error) return *std::move(reply->error);
  if (reply->results.size() != names.size()) return BadReply("not one result a plugin");
  std::vector<StepResult> results;
  for (size_t i = 0; i < names.size(); ++i) {
    if (reply->results[i].name != names[i]) return BadReply("results in another order");
    base::Status status;
    if (reply->results[i].error) status = *std::move(reply->results[i].error);
    results.push_back({names[i], std::move(status)});
  }
  return results;
}

base::Result<ProbeReport> ExecBox::Probe(const std::vector<std::string>& names,
                                         const std::vector<Delivery>& record,
                                         std::stop_token stop) {
  const base::FailpointScope point("box.probe");
  Question question{{.op = BoxOp::kProbe, .names = names}};
  for (const Delivery& d : record)
    question.request.deliveries.push_back({d.name, d.source, d.revision, d.digest, 0});
  question.worth_a_helper = !names.empty() || !record.empty();
  auto reply = Ask(question, stop);
  if (!reply && reply.error().reason == "HelperAbsent") {
    const auto ours = HasOurs(stop);
    if (!ours) return ours.error();
    if (!*ours) return ProbeReport{};
    question.worth_a_helper = true;
    reply = Ask(question, stop);
  }
  if (!reply) return std::move(reply).error();
  if (reply->error) return *std::move(reply->error);
  if (reply->plugins.size() < names.size()) return BadReply("not every plugin is named");
  ProbeReport report;
  for (size_t i = 0; i < reply->plugins.size(); ++i) {
    const auto& plugin = reply->plugins[i];
    if (i < names.size() && plugin.name != names[i]) return BadReply("plugins in another order");
    if (i >= names.size() && !bundle::IsPluginName(plugin.name)) continue;
    report.plugins.push_back(FromWire(plugin));
  }
  for (const auto& removal : reply->removals)
    if (bundle::IsPluginName(removal.name))
      report.removals.push_back({removal.name, removal.boot_id, removal.removed_time});
  return report;
}

base::Result<std::vector<StepResult>> ExecBox::Deliver(const std::vector<Delivery>& deliveries,
                                                       std::stop_token stop) {
  const base::FailpointScope point("box.deliver");
  Question question{{.op = BoxOp::kDeliver}};
  std::vector<StepResult> results;
  std::vector<std::string> sent;
  uint64_t total = 0;
  for (const Delivery& d : deliveries) {
    results.push_back({d.name, {}});
    const auto size = FileSize(d.tar_path);
    if (!size) {
      results.back().status = size.error();
      continue;
    }
    question.request.deliveries.push_back({d.name, d.source, d.revision, d.digest, *size});
    question.tars.push_back(d);
    sent.push_back(d.name);
    total += *size;
  }
  question.deadline = std::min(kLongest, kShort + base::Millis(total / kLeastBytesPerMilli));
  auto steps = AskSteps(std::move(question), sent, stop);
  if (!steps) return std::move(steps).error();
  auto step = steps->begin();
  for (StepResult& result : results)
    if (result.status) result.status = std::move((step++)->status);
  return results;
}

base::Result<std::vector<StepResult>> ExecBox::Adopt(const std::vector<Delivery>& present,
                                                     std::stop_token stop) {
  const base::FailpointScope point("box.adopt");
  Question question{{.op = BoxOp::kAdopt}};
  std::vector<std::string> names;
  for (const Delivery& d : present) {
    question.request.deliveries.push_back({d.name, d.source, d.revision, d.digest, 0});
    names.push_back(d.name);
  }
  return AskSteps(std::move(question), names, stop);
}

base::Result<std::vector<StepResult>> ExecBox::Activate(const ActivateRequest& request,
                                                        std::stop_token stop) {
  const base::FailpointScope point("box.activate");
  return AskSteps({{.op = BoxOp::kActivate, .names = request.names, .boot_id = request.boot_id}},
                  request.names, stop);
}

base::Result<std::vector<StepResult>> ExecBox::Remove(const std::vector<std::string>& names,
                                                      const std::string& boot_id,
                                                      std::stop_token stop) {
  const base::FailpointScope point("box.remove");
  return AskSteps({{.op = BoxOp::kRemove, .names = names, .boot_id = boot_id}}, names, stop);
}

base::Status ExecBox::ClearRemovals(const std::string& boot_id, std::stop_token stop) {
  const base::FailpointScope point("box.clear_removals");
  auto reply = Ask({{.op = BoxOp::kClearRemovals, .boot_id = boot_id}}, stop);
  if (!reply) return std::move(reply).error();
  if (reply->error) return *std::move(reply->error);
  return {};
}

base::Status ExecBox::WriteToken(const std::string& token, std::stop_token stop) {
  const base::FailpointScope point("box.token");
  if (token.empty())
    if (auto taken = TakeBackByShell(stop); taken || taken.error().reason != "ProgramNotFound")
      return taken;
  Question question{{.op = BoxOp::kWriteToken, .token = token}};
  question.worth_a_helper = false;
  auto reply = Ask(std::move(question), stop);
  if (!reply && reply.error().reason == "HelperAbsent") return WriteTokenByShell(token, stop);
  if (!reply) return std::move(reply).error();
  if (reply->error) return *std::move(reply->error);
  return {};
}

base::Result<bool> ExecBox::AgentRuns(std::stop_token stop) {
  auto reply = Ask({{.op = BoxOp::kAgent}}, stop);
  if (!reply) return std::move(reply).error();
  if (reply->error) return *std::move(reply->error);
  return reply->agent_running;
}

}  // namespace box
