#include "protocol/box_frames.hpp"

#include <doctest/doctest.h>

#include "base/result.hpp"
#include "base/utf8.hpp"

namespace {

using protocol::FrameKind;

struct Taken {
  std::string kinds;
  std::vector<std::string> payloads;
  base::Status status;
};

Taken Read(std::string_view bytes, size_t step) {
  Taken taken;
  protocol::FrameReader reader;
  for (size_t at = 0; at < bytes.size() && taken.status; at += step)
    taken.status = reader.Push(bytes.substr(at, step),
                               [&](FrameKind kind, std::string_view payload) -> base::Status {
                                 taken.kinds += static_cast<char>(kind);
                                 taken.payloads.emplace_back(payload);
                                 return {};
                               });
  return taken;
}

std::string Frame(FrameKind kind, std::string_view payload) {
  std::string out;
  protocol::AppendFrame(out, kind, payload);
  return out;
}

}  // namespace

TEST_CASE("frames are read however the stream is cut, and a banner before them is skipped") {
  const std::string binary("\0MBX\xff", 5);
  const std::string bytes = "Welcome to MBX\n" + Frame(FrameKind::kRequest, "{}") +
                            Frame(FrameKind::kData, binary) + Frame(FrameKind::kEnd, "");
  for (size_t step = 1; step <= bytes.size(); ++step) {
    const Taken taken = Read(bytes, step);
    CHECK(taken.status);
    CHECK(taken.kinds == "QDE");
    REQUIRE(taken.payloads.size() == 3);
    CHECK(taken.payloads[1] == binary);
  }
}

TEST_CASE("what is no frame is refused: between frames, unknown kinds, endless banners, lengths") {
  const std::string good = Frame(FrameKind::kReply, "{}");
  CHECK(Read(good + "x" + good, 7).status.error().reason == "BadFrame");
  CHECK(Read(std::string(200'000, 'M'), 4096).status.error().reason == "BadFrame");
  std::string unknown = good;
  unknown[4] = 'Z';
  CHECK(Read(unknown, 3).status.error().reason == "BadFrame");
  std::string huge = good;
  huge[5] = '\x7f';
  CHECK(Read(huge, 100).status.error().reason == "BadFrame");
  CHECK(Read(good.substr(0, good.size() - 1), 100).kinds.empty());
}

TEST_CASE("requests and replies survive the wire") {
  protocol::BoxRequest request{.op = protocol::BoxOp::kDeliver,
                               .settings_file = "claude.json",
                               .names = {"a"},
                               .boot_id = "b1",
                               .token = "t",
                               .deliveries = {{"a", "gitea://o/a#tag:1", "rev", "sha256:1", 42}}};
  const auto back = protocol::DecodeBoxRequest(protocol::EncodeBoxRequest(request));
  REQUIRE(back);
  CHECK(*back == request);
  protocol::BoxReply reply;
  reply.plugins.push_back({"a", "Present", "", true, "rev", "sha256:1", "sha256:2", "b0", true,
                           false, true, base::ParseTime("2026-01-01T12:00:05Z")});
  reply.removals.push_back({"old", "b0", base::ParseTime("2026-01-01T12:00:06Z")});
  reply.removals.push_back({"older", "b0"});
  reply.results.push_back({"a", base::MakeError(base::Code::kUnavailable, "disk full", "NoSpace")});
  reply.results.push_back({"b", std::nullopt});
  reply.agent_running = true;
  const auto reply_back = protocol::DecodeBoxReply(protocol::EncodeBoxReply(reply));
  REQUIRE(reply_back);
  CHECK(reply_back->plugins == reply.plugins);
  CHECK(reply_back->removals == reply.removals);
  REQUIRE(reply_back->results.size() == 2);
  CHECK(reply_back->results[0].error->reason == "NoSpace");
  CHECK(reply_back->results[0].error->code == base::Code::kUnavailable);
  CHECK_FALSE(reply_back->results[1].error);
  CHECK(reply_back->agent_running);
}

TEST_CASE("broken requests and replies name the field; a box's texts are made harmless") {
  for (const char* bad : {"", "[]", "{}", R"({"op":"format"})", R"({"op":"probe","names":"x"})",
                          R"({"op":"probe","names":[1]})", R"({"op":"deliver","deliveries":[{}]})"})
    CHECK(protocol::DecodeBoxRequest(bad).error().reason == "BadRequest");
  for (const char* bad : {"", "[]", R"({"plugins":{}})", R"({"results":[{}]})"})
    CHECK(protocol::DecodeBoxReply(bad).error().reason == "BadReply");
  const auto reply = protocol::DecodeBoxReply(
      R"({"error":{"code":"nonsense","message":"a\u001b[31m\n)" + std::string(5000, 'x') + "\"}}");
  REQUIRE(reply);
  CHECK(reply->error->code == base::Code::kInternal);
  CHECK(reply->error->message.find('\x1b') == std::string::npos);
  CHECK(reply->error->message.size() < 1100);
  std::string accents = "x";  // So that the limit falls inside of one.
  for (int i = 0; i < 2000; ++i) accents += "\u00e9";
  const auto cut =
      protocol::DecodeBoxReply(R"({"error":{"code":"internal","message":")" + accents + "\"}}");
  REQUIRE(cut);
  CHECK(!base::FindInvalidUtf8(cut->error->message));
}
