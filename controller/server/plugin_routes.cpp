#include <fmt/format.h>

#include "codec/json.hpp"
#include "codec/resources.hpp"
#include "server/answers.hpp"
#include "server/routes.hpp"

namespace server {
namespace {

constexpr size_t kDeclarationBytes = 16 << 10;

Caller CallerOf(const Call& call) {
  Caller caller;
  caller.bearer_token = BearerToken(call.in.request.headers);
  caller.client_subject = call.in.client_subject;
  caller.peer = call.in.peer;
  return caller;
}

/// The workspace, if the caller may do `verb` there. Authorisation comes first: who may not learns
/// nothing of what exists.
base::Result<WorkspaceView> FindFor(Context& context, const Call& call, Verb verb) {
  const std::string& id = call.values[0];
  auto found = context.ports.find_workspace(id);
  const size_t dot = id.find('.');
  AuthoriseRequest request{CallerOf(call), verb, {}};
  if (found) {
    request.ns = found->key.ns;
  } else if (dot != std::string::npos) {
    request.ns = id.substr(0, dot);
  }
  if (auto allowed = context.ports.authorise(request); !allowed) return allowed.error();
  return found;
}

bool Wired(const Context& context) {
  return context.ports.authorise && context.ports.find_workspace;
}

http::Response ExternalRefusal(const WorkspaceView& workspace, std::string_view plugin) {
  return ErrorResponse(
      422, "external_box",
      fmt::format("the box of workspace {} is external: the operator cannot reach it",
                  workspace.key.Text()),
      fmt::format("let its agent pull GET /workspaces/{}/plugins/{}/download", workspace.uid,
                  plugin.empty() ? "{name}" : plugin));
}

base::Error BadBody(std::string message) {
  return base::MakeError(base::Code::kInvalid, std::move(message), "InvalidField");
}

base::Status ReadDeclaration(std::string_view body, Declaration& out) {
  auto json = codec::ParseJson(body, {.bytes = kDeclarationBytes, .depth = 4});
  if (!json) return json.error();
  if (!json->is_object()) return BadBody("the body must be a JSON object");
  for (const auto& [name, value] : json->items()) {
    std::string* target = name == "source" ? &out.source : name == "name" ? &out.name : nullptr;
    if (target == nullptr) {
      return BadBody(fmt::format("field `{}` is not known; `source` and `name` are", name));
    }
    if (!value.is_string()) return BadBody(fmt::format("field `{}` must be a string", name));
    *target = value.get<std::string>();
  }
  if (out.source.empty()) return BadBody("field `source` is required");
  if (out.name.size() > 63) return BadBody("field `name` must be at most 63 bytes long");
  return {};
}

http::Response Accepted(const WorkspaceView& workspace, const Declared& declared) {
  const std::string url = fmt::format("/workspaces/{}/plugins", workspace.uid);
  const codec::Json body = {{"kind", "DeclaredPlugin"},
                            {"namespace", declared.key.ns},
                            {"name", declared.key.name},
                            {"statusURL", url}};
  auto response = JsonResponse(202, codec::Dump(body));
  response.headers.emplace_back("Location", url);
  return response;
}

http::Response Encode(const WorkspaceView& workspace, PluginList list, base::WallTime now) {
  api::WorkspaceStatus status;
  status.plugins = std::move(list.rows);
  const codec::Json encoded = codec::EncodeWorkspaceStatus(status);
  const codec::Json& rows = codec::GetMember(encoded, "plugins");
  codec::Json body = {
      {"workspace",
       {{"namespace", workspace.key.ns}, {"name", workspace.key.name}, {"uid", workspace.uid}}},
      {"plugins", rows.is_array() ? rows : codec::Json::array()},
      {"stale", list.stale}};
  if (!list.cause.empty()) body["cause"] = list.cause;
  if (list.observed_time) {
    body["observedTime"] = base::FormatTime(*list.observed_time);
    body["ageSeconds"] =
        std::chrono::duration_cast<base::Seconds>(now - *list.observed_time).count();
  }
  return JsonResponse(200, codec::Dump(body));
}

}  // namespace

void HandleListPlugins(Context& context, Call& call) {
  if (!Wired(context) || !context.ports.list_plugins) return call.out.Send(NotWired());
  const auto workspace = FindFor(context, call, Verb::kGet);
  if (!workspace) return call.out.Send(ErrorResponse(workspace.error()));
  auto list = context.ports.list_plugins(*workspace);
  if (!list) return call.out.Send(ErrorResponse(list.error()));
  call.out.Send(Encode(*workspace, std::move(*list), context.clock.Read().wall));
}

void HandleDeclarePlugin(Context& context, Call& call) {
  if (!Wired(context) || !context.ports.declare_plugin) return call.out.Send(NotWired());
  const auto workspace = FindFor(context, call, Verb::kCreate);
  if (!workspace) return call.out.Send(ErrorResponse(workspace.error()));
  Declaration declaration{*workspace, {}, {}, CallerOf(call)};
  if (auto status = ReadDeclaration(call.in.request.body, declaration); !status) {
    return call.out.Send(ErrorResponse(status.error(), R"(send {"source": "...", "name": "..."})"));
  }
  if (workspace->box == api::BoxType::kExternal) {
    return call.out.Send(ExternalRefusal(*workspace, declaration.name));
  }
  const auto declared = context.ports.declare_plugin(declaration);
  if (!declared) return call.out.Send(ErrorResponse(declared.error()));
  call.out.Send(Accepted(*workspace, *declared));
}

void HandleWithdrawPlugin(Context& context, Call& call) {
  if (!Wired(context) || !context.ports.withdraw_plugin) return call.out.Send(NotWired());
  const auto workspace = FindFor(context, call, Verb::kDelete);
  if (!workspace) return call.out.Send(ErrorResponse(workspace.error()));
  if (workspace->box == api::BoxType::kExternal) {
    return call.out.Send(ExternalRefusal(*workspace, call.values[1]));
  }
  const auto declared =
      context.ports.withdraw_plugin(Declaration{*workspace, call.values[1], {}, CallerOf(call)});
  if (!declared) return call.out.Send(ErrorResponse(declared.error()));
  call.out.Send(Accepted(*workspace, *declared));
}

}  // namespace server
