#pragma once

#include <memory>
#include <string>

#include "apiserver/store/store.hpp"
#include "apiserver/wire/presentation.hpp"
#include "apiserver/wire/registry.hpp"
#include "apiserver/wire/request_info.hpp"
#include "apiserver/wire/selector.hpp"
#include "apiserver/wire/status.hpp"
#include "base/clock.hpp"
#include "http/server/server.hpp"

namespace apiserver {

struct ReadRequest {
  const Served* served = nullptr;
  const RequestInfo* info = nullptr;
  Presentation presentation;
};

/// get, list and watch. Thread safe.
class ObjectReader {
 public:
  struct Options {
    base::Seconds bookmark_period{60};
    size_t watch_buffer_limit = 8 << 20;
  };
  ObjectReader(Store& store, const base::Clock& clock, Options options)
      : store_(store), clock_(clock), options_(options) {}

  Outcome<std::string> Get(const ReadRequest& request) const;
  Outcome<std::string> List(const ReadRequest& request) const;
  /// Answers by a stream, or with a failure.
  void Watch(const ReadRequest& request, http::Responder& responder) const;
  /// All objects that a list request selects, at one version.
  Outcome<ListResult> Select(const ReadRequest& request) const;

 private:
  struct Page {
    std::vector<std::string> texts;
    int64_t version = 0;
    std::string continue_token;
    int64_t remaining = -1;
  };
  Outcome<ListQuery> QueryOf(const ReadRequest& request, const Selector& selector) const;
  Outcome<Page> ReadPage(const ReadRequest& request, const Selector& selector,
                         ListQuery query) const;
  Outcome<bool> StartWatch(const ReadRequest& request, http::Responder& responder) const;

  Store& store_;
  const base::Clock& clock_;
  const Options options_;
};

}  // namespace apiserver
