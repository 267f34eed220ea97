#include "protocol/answer.hpp"

#include <doctest/doctest.h>

TEST_CASE("what is encoded decodes to the same answer") {
  protocol::HeartbeatAnswer answer;
  CHECK(*protocol::DecodeHeartbeatAnswer(protocol::EncodeHeartbeatAnswer(answer)) == answer);
  answer.state = "Failed";
  answer.reason = "ManagementMissing";
  answer.message = "line one\n\"two\"";
  answer.next_period_seconds = 5;
  answer.plugins_known = true;
  answer.plugins = {{"a", "c1", "sha256:1", "/workspaces/u/plugins/a/download", "local://a"},
                    {"b", "c2", "sha256:2", "/workspaces/u/plugins/b/download", "local://b", true}};
  answer.remove = {"old", "older"};
  answer.restart_expected_boot_id = "boot-1";
  answer.inventory_digest = "sha256:3";
  const auto decoded = protocol::DecodeHeartbeatAnswer(protocol::EncodeHeartbeatAnswer(answer));
  REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
  CHECK(*decoded == answer);
}

TEST_CASE("an answer of an older or newer operator is understood as far as it goes") {
  CHECK(protocol::DecodeHeartbeatAnswer("{}")->next_period_seconds == 30);
  CHECK(protocol::DecodeHeartbeatAnswer(R"({"state":"Online","new":[{}]})")->state == "Online");
}

TEST_CASE("answers that are refused") {
  for (const char* bad :
       {"", "[]", R"({"state":1})", R"({"nextPeriodSeconds":-1})", R"({"nextPeriodSeconds":"5"})",
        R"({"plugins":{}})", R"({"plugins":[1]})", R"({"plugins":[{"name":"a"}]})",
        R"({"plugins":[{"name":"a","digest":"d","path":"p","management":1}]})",
        R"({"restart":true})", R"({"restart":{}})", R"({"remove":[1]})", R"({"pluginsKnown":1})"}) {
    INFO(std::string(bad));
    const auto result = protocol::DecodeHeartbeatAnswer(bad);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == base::Code::kInvalid);
  }
}

TEST_CASE("error bodies survive hostile text") {
  const protocol::ErrorBody body{"bad_request", "quote \" and \\ and \x01", "see docs"};
  CHECK(*protocol::DecodeError(protocol::EncodeError(body)) == body);
  CHECK(protocol::DecodeError(protocol::EncodeError({"x", "\xff", ""})).has_value());
}
