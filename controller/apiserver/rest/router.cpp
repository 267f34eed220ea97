#include "apiserver/rest/router.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apiserver/rest/reviews.hpp"
#include "apiserver/wire/object_text.hpp"
#include "apiserver/wire/protobuf.hpp"
#include "base/log.hpp"
#include "base/sha256.hpp"

namespace apiserver {
namespace {

using codec::Json;

constexpr std::string_view kBearer = "Bearer ";

std::string_view MediaType(const http::Request& request) {
  std::string_view type = http::FindHeader(request.headers, "Content-Type");
  type = type.substr(0, std::min(type.find(';'), type.size()));
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  return type;
}

std::optional<Identity> Authenticated(const TokenTable& tokens, const http::Request& request) {
  const std::string_view header = http::FindHeader(request.headers, "Authorization");
  if (!header.starts_with(kBearer)) return std::nullopt;
  return tokens.Authenticate(header.substr(kBearer.size()));
}

/// Probes and the version tell nothing that is secret.
bool IsOpen(std::string_view path) {
  return path == "/healthz" || path == "/livez" || path == "/readyz" || path == "/version";
}

http::Response JsonDocument(const Json& json) { return JsonResponse(200, codec::Dump(json)); }

/// A document that clients keep: with an ETag, and 304 when they have it.
http::Response Cached(const http::Request& request, std::string body, const std::string& type) {
  const std::string etag = "\"" + base::Hex(base::Sha256Of(body)) + "\"";
  http::Response response;
  response.headers = {
      {"Content-Type", type}, {"ETag", etag}, {"Vary", "Accept"}, {"Cache-Control", "public"}};
  if (http::FindHeader(request.headers, "If-None-Match") == etag) {
    response.status = 304;
    return response;
  }
  response.status = 200;
  response.body = std::move(body);
  return response;
}

Failure MethodNotAllowed(const Served& served) {
  return Fail(405, "MethodNotAllowed",
              fmt::format("the server does not allow this method on {}: it serves the definitions "
                          "it was started with",
                          served.definition.QualifiedResource()));
}

Failure NoSuchPath() {
  return Fail(404, "NotFound", "the server could not find the requested resource");
}

Failure Forbidden(const Identity& identity, const RequestInfo& info) {
  if (info.resource.empty()) {
    return Fail(403, "Forbidden",
                fmt::format("forbidden: User \"{}\" cannot {} path \"{}\"", identity.user,
                            info.verb, info.path));
  }
  const std::string resource =
      info.group.empty() ? info.resource : info.resource + "." + info.group;
  const std::string where =
      info.ns.empty() ? "at the cluster scope" : fmt::format("in the namespace \"{}\"", info.ns);
  return Fail(
      403, "Forbidden",
      fmt::format("{} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {}",
                  info.name.empty() ? resource : fmt::format("{} \"{}\"", resource, info.name),
                  identity.user, info.verb, info.resource, info.group, where),
      {info.group, info.resource, info.name});
}

Attributes AttributesOf(const RequestInfo& info) {
  if (info.resource.empty())
    return Attributes{info.verb == "head" ? "get" : info.verb, "", "", "", "", "", info.path};
  return Attributes{info.verb, info.group, info.resource, info.subresource, info.ns, info.name, ""};
}

std::optional<PatchType> PatchTypeOf(std::string_view media) {
  if (media == "application/merge-patch+json") return PatchType::kMerge;
  if (media == "application/json-patch+json") return PatchType::kJson;
  if (media == "application/strategic-merge-patch+json") return PatchType::kStrategic;
  if (media == "application/apply-patch+yaml") return PatchType::kApply;
  return std::nullopt;
}

Failure UnsupportedMedia(std::string_view type) {
  return Fail(415, "UnsupportedMediaType",
              fmt::format("the body of the request was in an unknown format - accepted media types "
                          "include: application/json, "
                          "application/yaml, application/vnd.kubernetes.protobuf; got \"{}\"",
                          type));
}

/// Warning headers are one line of quoted text each.
std::string WarningHeader(const std::string& text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted.push_back('\\');
    quoted.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c);
  }
  return "299 - \"" + quoted + "\"";
}

Outcome<bool> ReadDryRun(const std::string& value) {
  if (value.empty()) return false;
  if (value == "All") return true;
  return BadRequest(
      fmt::format("Invalid value: \"{}\": dryRun supports only the value All", value));
}

/// Delete options come in the body or in the query.
Outcome<DeleteOptions> DeleteOptionsOf(const http::Request& request, const RequestInfo& info,
                                       bool& dry_run) {
  DeleteOptions options;
  options.propagation = info.query.Get("propagationPolicy");
  if (!request.body.empty()) {
    auto body = DecodeBody(request);
    if (!body) return body.failure();
    const Json& preconditions = codec::GetMember(*body, "preconditions");
    options.uid = codec::GetString(preconditions, "uid");
    options.version = codec::GetString(preconditions, "resourceVersion");
    if (const std::string policy = codec::GetString(*body, "propagationPolicy"); !policy.empty())
      options.propagation = policy;
    if (codec::GetBool(*body, "orphanDependents")) options.propagation = "Orphan";
    const Json& dry = codec::GetMember(*body, "dryRun");
    if (dry.is_array() && !dry.empty()) {
      auto read = ReadDryRun(dry.front().is_string() ? dry.front().get<std::string>() : "?");
      if (!read) return read.failure();
      dry_run = *read;
    }
  }
  const std::string& policy = options.propagation;
  if (!policy.empty() && policy != "Background" && policy != "Foreground" && policy != "Orphan") {
    return BadRequest(
        fmt::format("propagationPolicy: Unsupported value: \"{}\": supported values: "
                    "\"Background\", \"Foreground\", \"Orphan\"",
                    policy));
  }
  return options;
}

}  // namespace

Outcome<Json> DecodeBody(const http::Request& request) {
  const std::string_view type = MediaType(request);
  if (type == "application/vnd.kubernetes.protobuf") {
    auto object = DecodeProtobuf(request.body);
    if (object) return std::move(*object);
    if (object.error().reason == "UnsupportedMediaType")
      return Fail(415, "UnsupportedMediaType", object.error().message);
    return BadRequest(object.error().message);
  }
  // An apply patch is YAML by its name and JSON by custom; other patches and bodies are JSON.
  const bool yaml = type == "application/yaml" ||
                    (type == "application/apply-patch+yaml" && !request.body.starts_with('{'));
  if (yaml) {
    auto documents = codec::ParseYaml(request.body);
    if (!documents) return BadRequest("the body is not valid YAML: " + documents.error().message);
    if (documents->size() != 1) return BadRequest("the body must be one YAML document");
    return std::move(documents->front());
  }
  if (!type.empty() && type != "application/json" && !PatchTypeOf(type))
    return UnsupportedMedia(type);
  auto object = codec::ParseJson(request.body);
  if (!object) return BadRequest("the body is not valid JSON: " + object.error().message);
  return std::move(*object);
}

Router::Router(Store& store, const Registry& registry, const TokenTable& tokens,
               ObjectWriter& writer, const base::Clock& clock, RouterOptions options)
    : store_(store),
      registry_(registry),
      tokens_(tokens),
      writer_(writer),
      clock_(clock),
      options_(std::move(options)),
      reader_(store, clock, options_.reader) {}

/// A web page that makes its own name point at this machine must not reach the API: the Host has to
/// be one of ours.
bool Router::HostAllowed(const http::Request& head) const {
  std::string_view host = http::FindHeader(head.headers, "Host");
  if (host.starts_with('[')) {
    host = host.substr(1, std::min(host.find(']'), host.size()) - 1);
  } else {
    host = host.substr(0, std::min(host.find(':'), host.size()));
  }
  return host == "localhost" || host == "127.0.0.1" || host == "::1" || host == options_.address;
}

std::optional<http::Response> Router::CheckHead(const http::Request& head) const {
  if (!HostAllowed(head))
    return ResponseOf(Fail(403, "Forbidden", "the Host header names another host"));
  const std::string_view target = head.target;
  if (IsOpen(target.substr(0, std::min(target.find('?'), target.size())))) return std::nullopt;
  if (Authenticated(tokens_, head)) return std::nullopt;
  http::Response response = ResponseOf(Fail(401, "Unauthorized", "Unauthorized"));
  response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

void Router::Handle(http::ServerRequest&& server_request,
                    std::unique_ptr<http::Responder> responder) const {
  const http::Request& request = server_request.request;
  if (auto refused = CheckHead(request)) return responder->Send(std::move(*refused));
  const auto info = ParseRequest(request);
  if (!info) return responder->Send(ResponseOf(BadRequest("the request's target is malformed")));
  const Identity anonymous{"system:anonymous", "", {"system:unauthenticated"}};
  const Identity identity = Authenticated(tokens_, request).value_or(anonymous);
  const bool open = IsOpen(info->path);
  if (!open && !tokens_.Allowed(identity, AttributesOf(*info)))
    return responder->Send(ResponseOf(Forbidden(identity, *info)));
  Call call{request, *info, identity};
  if (info->resource.empty()) {
    if (request.method != "GET" && request.method != "HEAD") {
      return responder->Send(ResponseOf(Fail(405, "MethodNotAllowed", "only GET is allowed here")));
    }
    auto document = Document(call);
    return responder->Send(document ? std::move(*document) : ResponseOf(NoSuchPath()));
  }
  if (const ReviewKind* review = registry_.FindReview(info->group, info->version, info->resource)) {
    return responder->Send(Review(call, *review));
  }
  call.served = registry_.Find(info->group, info->version, info->resource);
  const bool known =
      call.served != nullptr &&
      (info->subresource.empty() ||
       (info->subresource == "status" && call.served->definition.has_status_subresource));
  if (!known || (!call.served->definition.namespaced && !info->ns.empty()))
    return responder->Send(ResponseOf(NoSuchPath()));
  Resource(call, *responder);
}

std::optional<http::Response> Router::Document(const Call& call) const {
  const auto& parts = call.info.segments;
  if (parts.empty())
    return JsonDocument({{"paths",
                          {"/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2",
                           "/openapi/v3", "/readyz", "/version"}}});
  if (parts[0] == "healthz" || parts[0] == "livez" || parts[0] == "readyz") return Probe(call);
  if (parts[0] == "version" && parts.size() == 1) return Version();
  if (parts[0] == "openapi") return OpenApi(call);
  if (parts[0] == "api") {
    if (parts.size() == 1) return Discovery(call, true);
    auto resources = parts.size() == 2 ? registry_.Resources("", parts[1]) : std::nullopt;
    return resources ? std::optional(JsonDocument(*resources)) : std::nullopt;
  }
  if (parts[0] != "apis") return std::nullopt;
  if (parts.size() == 1) return Discovery(call, false);
  auto found = parts.size() == 2   ? registry_.Group(parts[1])
               : parts.size() == 3 ? registry_.Resources(parts[1], parts[2])
                                   : std::nullopt;
  return found ? std::optional(JsonDocument(*found)) : std::nullopt;
}

http::Response Router::Discovery(const Call& call, bool core) const {
  const std::string_view accept = http::FindHeader(call.request.headers, "Accept");
  // In the client's order; the first that is known wins.
  const size_t v2 = accept.find("g=apidiscovery.k8s.io;v=v2;");
  const size_t beta = accept.find("g=apidiscovery.k8s.io;v=v2beta1;");
  if (v2 == std::string_view::npos && beta == std::string_view::npos) {
    return Cached(call.request, codec::Dump(core ? registry_.Versions() : registry_.Groups()),
                  "application/json");
  }
  const std::string version =
      v2 != std::string_view::npos && (beta == std::string_view::npos || v2 < beta) ? "v2"
                                                                                    : "v2beta1";
  return Cached(
      call.request, codec::Dump(registry_.Aggregated(core, version)),
      fmt::format("application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList", version));
}

http::Response Router::Probe(const Call& call) const {
  http::Response response;
  response.status = 200;
  response.headers = {{"Content-Type", "text/plain; charset=utf-8"}, {"Cache-Control", "no-cache"}};
  response.body = "ok";
  const auto trouble = store_.Trouble();
  if (call.info.segments[0] == "readyz" && trouble) {
    response.status = 503;
    response.body = "store: " + trouble->message + "\n";
  } else if (call.info.query.Has("verbose")) {
    response.body =
        fmt::format("[+]ping ok\n[+]store ok\n{} check passed\n", call.info.segments[0]);
  }
  return response;
}

http::Response Router::Version() const {
  const std::string& version = options_.server_version;
  const size_t dot = version.find('.');
  const size_t second = version.find('.', dot + 1);
  return JsonDocument({{"major", version.substr(1, dot - 1)},
                       {"minor", version.substr(dot + 1, second - dot - 1)},
                       {"gitVersion", version + "+workspace-operator"},
                       {"gitCommit", ""},
                       {"gitTreeState", "clean"},
                       {"buildDate", "1970-01-01T00:00:00Z"},
                       {"goVersion", ""},
                       {"compiler", "g++"},
                       {"platform", "linux/amd64"}});
}

std::optional<http::Response> Router::OpenApi(const Call& call) const {
  const std::string prefix = "/openapi/v3";
  if (call.info.path == "/openapi/v2") return Swagger(call.request);
  if (!call.info.path.starts_with(prefix)) return std::nullopt;
  std::string path = call.info.path.substr(prefix.size());
  if (path.starts_with('/')) path.erase(0, 1);
  auto text = registry_.OpenApi(path);
  if (!text) return std::nullopt;
  return Cached(call.request, std::move(*text), "application/json");
}

http::Response Router::Swagger(const http::Request& request) const {
  const std::string_view accept = http::FindHeader(request.headers, "Accept");
  if (accept.find("proto-openapi.spec.v2") != std::string_view::npos) {
    return Cached(request, registry_.OpenApiV2Text(true),
                  "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
  }
  return Cached(request, registry_.OpenApiV2Text(false), "application/json");
}

http::Response Router::Review(const Call& call, const ReviewKind& review) const {
  if (call.request.method != "POST")
    return ResponseOf(Fail(405, "MethodNotAllowed", "reviews are only ever created"));
  auto body = DecodeBody(call.request);
  if (!body) return ResponseOf(body.failure());
  auto answer = AnswerReview(review, tokens_, call.identity, std::move(*body), call.info.ns);
  if (!answer) return ResponseOf(answer.failure());
  return JsonResponse(201, codec::Dump(*answer));
}

void Router::Resource(const Call& call, http::Responder& responder) const {
  const RequestInfo& info = call.info;
  const bool reads = info.verb == "get" || info.verb == "list" || info.verb == "watch";
  if (!reads) return responder.Send(Write(call));
  if (call.request.method != "GET" && call.request.method != "HEAD") {
    return responder.Send(ResponseOf(Fail(405, "MethodNotAllowed", "the method is not known")));
  }
  ReadRequest read{call.served, &info, {}};
  if (!Negotiate(http::FindHeader(call.request.headers, "Accept"), info.query.Get("includeObject"),
                 read.presentation)) {
    return responder.Send(ResponseOf(Fail(
        406, "NotAcceptable", "only the following media types are accepted: application/json")));
  }
  if (info.verb == "watch" && info.name.empty()) return reader_.Watch(read, responder);
  auto text = info.name.empty() ? reader_.List(read) : reader_.Get(read);
  responder.Send(text ? JsonResponse(200, std::move(*text)) : ResponseOf(text.failure()));
}

Outcome<WriteRequest> Router::WriteRequestOf(const Call& call) const {
  const RequestInfo& info = call.info;
  WriteRequest write;
  write.served = call.served;
  write.ns = info.ns;
  write.name = info.name;
  write.subresource = info.subresource;
  write.manager.subresource = info.subresource;
  write.manager.now = clock_.Read().wall;
  write.manager.name = info.query.Get("fieldManager");
  const bool apply =
      info.verb == "patch" && PatchTypeOf(MediaType(call.request)) == PatchType::kApply;
  if (write.manager.name.size() > 128)
    return BadRequest("fieldManager: Too long: may not be more than 128 bytes");
  if (write.manager.name.empty() && !apply)
    write.manager.name = DefaultFieldManager(http::FindHeader(call.request.headers, "User-Agent"));
  write.force = info.query.Flag("force");
  if (write.force && !apply)
    return Fail(422, "Invalid", "force: Forbidden: may not be specified for non-apply patch");
  auto dry_run = ReadDryRun(info.query.Get("dryRun"));
  if (!dry_run) return dry_run.failure();
  write.dry_run = *dry_run;
  const std::string& validation = info.query.Get("fieldValidation");
  if (validation == "Strict")
    write.validation = FieldValidation::kStrict;
  else if (validation == "Ignore")
    write.validation = FieldValidation::kIgnore;
  else if (!validation.empty() && validation != "Warn") {
    return Fail(422, "Invalid",
                fmt::format("fieldValidation: Unsupported value: \"{}\": supported values: "
                            "\"Ignore\", \"Strict\", \"Warn\"",
                            validation));
  }
  return write;
}

http::Response Router::WrittenResponse(const Call& call, const Outcome<Written>& written) const {
  if (!written) return ResponseOf(written.failure());
  Presentation presentation;
  Negotiate(http::FindHeader(call.request.headers, "Accept"), call.info.query.Get("includeObject"),
            presentation);
  std::string text = written->is_object
                         ? Render(*call.served, presentation, written->text, clock_.Read().wall)
                         : written->text;
  http::Response response = JsonResponse(written->code, std::move(text));
  for (const std::string& warning : written->warnings)
    response.headers.emplace_back("Warning", WarningHeader(warning));
  return response;
}

http::Response Router::Write(const Call& call) const {
  const RequestInfo& info = call.info;
  if (call.served->read_only) return ResponseOf(MethodNotAllowed(*call.served));
  auto request = WriteRequestOf(call);
  if (!request) return ResponseOf(request.failure());
  const bool needs_namespace = call.served->definition.namespaced && info.ns.empty();
  if (needs_namespace && info.verb != "deletecollection")
    return ResponseOf(Fail(405, "MethodNotAllowed", "the path must name a namespace"));
  if (info.verb == "deletecollection") return DeleteCollection(call, *request);
  if (info.verb == "delete") {
    auto options = DeleteOptionsOf(call.request, info, request->dry_run);
    if (!options) return ResponseOf(options.failure());
    if (call.served->store_resource == "namespaces" && info.name == "default") {
      return ResponseOf(
          Fail(403, "Forbidden",
               "namespaces \"default\" is forbidden: this namespace may not be deleted",
               {"", "namespaces", "default"}));
    }
    return WrittenResponse(call, writer_.Delete(*request, *options));
  }
  auto body = DecodeBody(call.request);
  if (!body) return ResponseOf(body.failure());
  if (info.verb == "create") {
    if (!info.name.empty())
      return ResponseOf(
          Fail(405, "MethodNotAllowed", "POST goes to the collection, without a name"));
    return WrittenResponse(call, writer_.Create(*request, std::move(*body)));
  }
  if (info.name.empty())
    return ResponseOf(Fail(405, "MethodNotAllowed", "the path must name an object"));
  if (info.verb == "update")
    return WrittenResponse(call, writer_.Update(*request, std::move(*body)));
  const auto type = PatchTypeOf(MediaType(call.request));
  if (!type) return ResponseOf(UnsupportedMedia(MediaType(call.request)));
  return WrittenResponse(call, writer_.Patch(*request, *type, *body));
}

http::Response Router::DeleteCollection(const Call& call, const WriteRequest& base_request) const {
  WriteRequest request = base_request;
  auto options = DeleteOptionsOf(call.request, call.info, request.dry_run);
  if (!options) return ResponseOf(options.failure());
  ReadRequest read{call.served, &call.info, {}};
  auto rows = reader_.Select(read);
  if (!rows) return ResponseOf(rows.failure());
  std::vector<std::string> texts;
  for (StoredObject& object : rows->objects) {
    request.ns = object.key.ns;
    request.name = object.key.name;
    if (call.served->store_resource == "namespaces" && request.name == "default") continue;
    auto written = writer_.Delete(request, *options);
    if (!written && written.failure().code != 404) return ResponseOf(written.failure());
    texts.push_back(std::move(object.text));
  }
  ListHead head;
  head.version = std::to_string(rows->version);
  return JsonResponse(200,
                      RenderList(*call.served, read.presentation, texts, head, clock_.Read().wall));
}

}  // namespace apiserver
