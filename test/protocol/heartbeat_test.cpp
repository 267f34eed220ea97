#include "protocol/heartbeat.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace {

protocol::Register Full() {
  protocol::Register body;
  protocol::Heartbeat& h = body.heartbeat;
  h.workspace = "team-a.ws-1";
  h.boot_id = "6f1c-1";
  h.sequence = 42;
  h.time = base::ParseTime("2026-11-21T10:34:13Z");
  h.agent_version = "0.1.0";
  h.runtime = "claude-code";
  h.active_tasks = 0;
  h.current_task = "say \"hi\"\n\xc3\xa9";
  h.error_rate = 0.25;
  h.sample_error = "boom";
  h.uptime_seconds = 7;
  h.monthly_spend = 12.5;
  h.management_present = true;
  h.model_present = false;
  h.loaded_tools = {"a", "b"};
  h.boot_install = protocol::BootInstall{protocol::BootInstallState::kFailed, "no network"};
  h.inventory = {{"one", "c0ffee", "sha256:aa", true, false},
                 {"two", "", "", false},
                 {"three", "", "", false, true}};
  h.inventory_digest = "sha256:ff";
  h.box_identity = "box-1";
  body.pull = true;
  body.address = "10.0.0.1";
  return body;
}

std::string With(const std::string& members) {
  return R"({"workspace":"w","bootID":"b","sequence":1)" + (members.empty() ? "" : "," + members) +
         "}";
}

std::string Nested(size_t depth, char open, char close) {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += open == '{' ? "{\"a\":" : "[";
  text += "1";
  return text + std::string(depth, close);
}

}  // namespace

TEST_CASE("what is encoded decodes to the same heartbeat and register") {
  const auto body = Full();
  const auto heartbeat = protocol::DecodeHeartbeat(protocol::EncodeHeartbeat(body.heartbeat));
  REQUIRE_MESSAGE(heartbeat.has_value(), heartbeat.error().message);
  CHECK(*heartbeat == body.heartbeat);
  const auto decoded = protocol::DecodeRegister(protocol::EncodeRegister(body));
  REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
  CHECK(*decoded == body);
}

TEST_CASE("storage that is used again keeps nothing of the heartbeat before") {
  protocol::Heartbeat reused = Full().heartbeat;
  REQUIRE(protocol::DecodeHeartbeatInto(With(""), reused).has_value());
  CHECK(reused == *protocol::DecodeHeartbeat(With("")));
  CHECK_FALSE(reused.error_rate.has_value());
  CHECK_FALSE(reused.inventory.has_value());
}

TEST_CASE("bodies that are accepted") {
  const std::pair<const char*, std::string> rows[] = {
      {"the three required fields alone", With("")},
      {"unknown fields of every type are ignored",
       With(R"("x":null,"y":[1,"a",true,{"z":{}}],"z":1.5e3,"w":false,"address":[])")},
      {"the same unknown field twice", With(R"("x":1,"x":2)")},
      {"null counts as absent", With(R"("errorRate":null,"inventory":null,"bootInstall":null)")},
      {"an integer where a number is wanted", With(R"("errorRate":1,"monthlySpend":0)")},
      {"white space around", "  " + With("") + " \n"},
      {"fields in another order", R"({"sequence":1,"bootID":"b","workspace":"w"})"},
      {"unknown fields 15 deep", With("\"x\":" + Nested(14, '[', ']'))},
      {"an empty inventory and no tools", With(R"("inventory":[],"loadedTools":[])")},
  };
  for (const auto& [name, body] : rows) {
    INFO(std::string(name));
    const auto result = protocol::DecodeHeartbeat(body);
    CHECK_MESSAGE(result.has_value(), (result ? "" : result.error().message));
  }
}

TEST_CASE("bodies that are refused, with the field that is wrong") {
  struct Row {
    const char* name;
    std::string body;
    const char* says;
  };
  const Row rows[] = {
      {"nothing", "", "JSON"},
      {"not JSON", "hello", "JSON"},
      {"a list", "[]", "object"},
      {"cut off", R"({"workspace":"w")", "JSON"},
      {"cut in a string", R"({"workspace":"w)", "JSON"},
      {"text behind", With("") + "x", "JSON"},
      {"a second document", With("") + With(""), "followed"},
      {"no workspace", R"({"bootID":"b","sequence":1})", "`workspace` is required"},
      {"no boot id", R"({"workspace":"w","sequence":1})", "`bootID` is required"},
      {"no sequence", R"({"workspace":"w","bootID":"b"})", "`sequence` is required"},
      {"a required field that is null", R"({"workspace":null,"bootID":"b","sequence":1})",
       "`workspace` is required"},
      {"workspace is a number", R"({"workspace":1,"bootID":"b","sequence":1})", "`workspace`"},
      {"sequence is text", R"({"workspace":"w","bootID":"b","sequence":"1"})", "`sequence`"},
      {"sequence is negative", R"({"workspace":"w","bootID":"b","sequence":-1})", "`sequence`"},
      {"sequence is a fraction", R"({"workspace":"w","bootID":"b","sequence":1.5})", "`sequence`"},
      {"sequence is over 64 bits",
       R"({"workspace":"w","bootID":"b","sequence":18446744073709551616})", "`sequence`"},
      {"a boot id with a space", R"({"workspace":"w","bootID":"b b","sequence":1})", "`bootID`"},
      {"a known field twice", With(R"("sequence":2)"), "`sequence` is given twice"},
      {"an escaped known field twice", With(R"("sequenc\u0065":2)"), "`sequence` is given twice"},
      {"error rate NaN", With(R"("errorRate":NaN)"), "`errorRate`"},
      {"error rate Infinity", With(R"("errorRate":Infinity)"), "`errorRate`"},
      {"error rate too large for a double", With(R"("errorRate":1e999)"), "`errorRate`"},
      {"error rate over one", With(R"("errorRate":1.01)"), "`errorRate`"},
      {"error rate below zero", With(R"("errorRate":-0.1)"), "`errorRate`"},
      {"error rate as text", With(R"("errorRate":"0.1")"), "`errorRate`"},
      {"spend as text", With(R"("monthlySpend":"1")"), "`monthlySpend`"},
      {"tasks as a boolean", With(R"("activeTasks":true)"), "`activeTasks`"},
      {"present as a number", With(R"("managementPresent":1)"), "`managementPresent`"},
      {"model as text", With(R"("modelPresent":"yes")"), "`modelPresent`"},
      {"tools as an object", With(R"("loadedTools":{})"), "`loadedTools`"},
      {"a tool that is a number", With(R"("loadedTools":["a",1])"), "`loadedTools[]`"},
      {"boot install as text", With(R"("bootInstall":"Done")"), "`bootInstall`"},
      {"an unknown boot install state", With(R"("bootInstall":{"state":"Maybe"})"),
       "`bootInstall.state`"},
      {"boot install state twice", With(R"("bootInstall":{"state":"Done","state":"Failed"})"),
       "`state` is given twice"},
      {"inventory as an object", With(R"("inventory":{})"), "`inventory`"},
      {"an inventory item that is text", With(R"("inventory":["a"])"), "`inventory[]`"},
      {"an inventory item without a name", With(R"("inventory":[{"digest":"d"}])"),
       "`inventory[].name`"},
      {"loaded as text", With(R"("inventory":[{"name":"a","loaded":"yes"}])"),
       "`inventory[].loaded`"},
      {"a time that is none", With(R"("time":"yesterday")"), "`time`"},
      {"invalid UTF-8 in a known field", With("\"currentTask\":\"\xff\xfe\""), "UTF-8"},
      {"invalid UTF-8 in an unknown field", With("\"x\":\"\xc3\x28\""), "UTF-8"},
      {"NaN in an unknown field", With(R"("x":[NaN])"), "`x`"},
      {"a broken number in an unknown field", With(R"("x":1.2.3)"), "`x`"},
      {"a broken literal in an unknown field", With(R"("x":nul)"), "`x`"},
      {"a trailing comma in an unknown list", With(R"("x":[1,])"), ""},
      {"arrays 10,000 deep", With("\"x\":" + Nested(10'000, '[', ']')), "`x` is nested"},
      {"objects 10,000 deep", With("\"x\":" + Nested(10'000, '{', '}')), "`x` is nested"},
      {"10,000 deep and never closed", "{\"x\":" + std::string(10'000, '['), ""},
      {"10,000 deep as the whole body", Nested(10'000, '[', ']'), ""},
      {"a boot id too long",
       R"({"workspace":"w","sequence":1,"bootID":")" + std::string(129, 'b') + "\"}",
       "`bootID` must be at most 128"},
      {"10 MiB", With("\"x\":\"" + std::string(10 << 20, 'x') + "\""), "larger than"},
  };
  for (const auto& row : rows) {
    INFO(std::string(row.name));
    const auto result = protocol::DecodeHeartbeat(row.body);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == base::Code::kInvalid);
    CHECK_MESSAGE(result.error().message.find(row.says) != std::string::npos,
                  result.error().message);
  }
}

TEST_CASE("lists that are too long are refused by name") {
  std::string items;
  for (size_t i = 0; i <= protocol::kInventoryItems; ++i) {
    items += fmt::format(R"({}{{"name":"p{}"}})", i == 0 ? "" : ",", i);
  }
  const auto inventory = protocol::DecodeHeartbeat(With("\"inventory\":[" + items + "]"));
  REQUIRE_FALSE(inventory.has_value());
  CHECK(inventory.error().message.find("`inventory` holds more than") != std::string::npos);
  std::string tools = "\"t\"";
  for (size_t i = 0; i < protocol::kLoadedTools; ++i) tools += ",\"t\"";
  const auto list = protocol::DecodeHeartbeat(With("\"loadedTools\":[" + tools + "]"));
  REQUIRE_FALSE(list.has_value());
  CHECK(list.error().message.find("`loadedTools` holds more than") != std::string::npos);
}

TEST_CASE("free text that is too long is cut between characters, not refused") {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "\xc3\xa9";  // 800 bytes; 512 is even, so shift by one
  const auto result = protocol::DecodeHeartbeat(With("\"currentTask\":\"x" + text + "\""));
  REQUIRE(result.has_value());
  CHECK(result->current_task.size() == 511);
  CHECK(result->current_task == "x" + text.substr(0, 510));
}

TEST_CASE("a register reads its box, and refuses wrong types in it") {
  CHECK(protocol::DecodeRegister(With(R"("box":{"identity":"i","pull":true,"x":1})"))->pull);
  CHECK(protocol::DecodeHeartbeat(With(R"("box":{"identity":"i","pull":true,"x":1})"))
            ->box_identity == "i");
  CHECK_FALSE(protocol::DecodeHeartbeat(With(R"("box":{"identity":1})")).has_value());
  for (const char* bad :
       {R"("box":1)", R"("box":{"identity":1})", R"("box":{"pull":"yes"})", R"("address":{})"}) {
    INFO(std::string(bad));
    const auto result = protocol::DecodeRegister(With(bad));
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == base::Code::kInvalid);
  }
}
