#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apiserver/authz/authz.hpp"
#include "apiserver/rest/object_reader.hpp"
#include "apiserver/rest/object_writer.hpp"
#include "apiserver/store/store.hpp"
#include "apiserver/wire/registry.hpp"
#include "apiserver/wire/request_info.hpp"
#include "apiserver/wire/status.hpp"
#include "base/clock.hpp"
#include "http/server/server.hpp"

namespace apiserver {

struct RouterOptions {
  std::string address =
      "127.0.0.1";  ///< Host header values that are accepted besides localhost, 127.0.0.1 and ::1.
  std::string server_version = "v1.34.0";
  ObjectReader::Options reader;
};

/// From a request to its answer: host check, authentication, authorization, then the document or
/// the verb. Thread safe.
class Router {
 public:
  Router(Store& store, const Registry& registry, const TokenTable& tokens, ObjectWriter& writer,
         const base::Clock& clock, RouterOptions options);
  /// For http::Handlers.
  void Handle(http::ServerRequest&& request, std::unique_ptr<http::Responder> responder) const;
  /// Judges the head before the body is read: 401, 403 for foreign hosts.
  std::optional<http::Response> CheckHead(const http::Request& head) const;

 private:
  struct Call {
    const http::Request& request;
    const RequestInfo& info;
    const Identity& identity;
    const Served* served = nullptr;
  };
  bool HostAllowed(const http::Request& head) const;
  std::optional<http::Response> Document(const Call& call) const;
  http::Response Discovery(const Call& call, bool core) const;
  http::Response Probe(const Call& call) const;
  http::Response Version() const;
  std::optional<http::Response> OpenApi(const Call& call) const;
  http::Response Swagger(const http::Request& request) const;
  http::Response Review(const Call& call, const ReviewKind& review) const;
  void Resource(const Call& call, http::Responder& responder) const;
  http::Response Write(const Call& call) const;
  http::Response DeleteCollection(const Call& call, const WriteRequest& base_request) const;
  http::Response WrittenResponse(const Call& call, const Outcome<Written>& written) const;
  Outcome<WriteRequest> WriteRequestOf(const Call& call) const;

  Store& store_;
  const Registry& registry_;
  const TokenTable& tokens_;
  ObjectWriter& writer_;
  const base::Clock& clock_;
  const RouterOptions options_;
  const ObjectReader reader_;
};

/// The body by its Content-Type: JSON, YAML or Kubernetes protobuf.
Outcome<codec::Json> DecodeBody(const http::Request& request);

}  // namespace apiserver
