#pragma once

#include <string>
#include <utility>

#include "kube/client.hpp"
#include "reconcile/simulation/api_store.hpp"
#include "reconcile/simulation/weather.hpp"

namespace simulation {

/// The operator's way to the store: calls get lost, are answered late or not at all, and end when
/// the process is dead. Every call is in the trace; of Secrets only the name (a token is random).
class ApiClient final : public kube::Client {
 public:
  ApiClient(ApiStore& store, Weather& weather, Trace& trace)
      : store_(store), weather_(weather), trace_(trace) {}

  /// Writes that have changed an object.
  size_t Writes() const { return writes_; }
  /// The Lease of this process has run out while it was stopped.
  void Depose() { deposed_ = true; }
  bool Deposed() const { return deposed_; }

  base::Status MayWrite() const override {
    if (weather_.Dead()) return base::MakeError(base::Code::kCancelled, "this process is dead");
    if (!deposed_ && weather_.Leads()) return {};
    return base::MakeError(base::Code::kUnavailable, "the lease is somebody else's", "NotLeader");
  }
  base::Result<std::string> Get(const kube::ObjectRef& ref, const kube::CallOptions&) override {
    return Call("get " + ref.Text(), ref.resource, "", [&] { return store_.Get(ref); });
  }
  base::Result<std::string> Create(const kube::Collection& where, std::string body,
                                   const kube::WriteOptions&) override {
    if (auto may = MayWrite(); !may) return may.error();
    auto object = codec::ParseJson(body);
    if (!object) return object.error();
    const std::string name = codec::GetString((*object)["metadata"], "name");
    return Call("create " + where.resource.plural + " " + name, where.resource, "",
                [&] { return store_.Create(where, *object); });
  }
  base::Result<std::string> Patch(const kube::ObjectRef& ref, const kube::Patch& patch,
                                  const kube::WriteOptions&) override {
    if (auto may = MayWrite(); !may) return may.error();
    auto body = codec::ParseJson(patch.body);
    if (!body) return body.error();
    return Call("patch " + ref.Text(), ref.resource, patch.body,
                [&] { return store_.Patch(ref, *body); });
  }
  base::Result<std::string> Update(const kube::ObjectRef&, std::string,
                                   const kube::WriteOptions&) override {
    return Missing();
  }
  base::Result<std::string> Delete(const kube::ObjectRef& ref,
                                   const kube::DeleteOptions&) override {
    if (auto may = MayWrite(); !may) return may.error();
    return Call("delete " + ref.Text(), ref.resource, "", [&]() -> base::Result<Json> {
      if (auto deleted = store_.Delete(ref); !deleted) return deleted.error();
      return Json::object();
    });
  }
  base::Result<std::string> GetRaw(const std::string&, const kube::CallOptions&) override {
    return Missing();
  }
  base::Result<std::string> PostRaw(const std::string&, std::string,
                                    const kube::CallOptions&) override {
    return Missing();
  }
  base::Result<kube::ListResult> ListEach(const kube::Collection&, const kube::ListOptions&,
                                          const kube::ItemSink&) override {
    return Missing();
  }
  base::Status Watch(const kube::Collection&, const kube::WatchOptions&,
                     const kube::EventSink&) override {
    return Missing();
  }

 private:
  static base::Error Missing() {
    return base::MakeError(base::Code::kInternal, "no reconciler calls this");
  }
  template <typename Effect>
  base::Result<std::string> Call(const std::string& what, const kube::Resource& resource,
                                 const std::string& body, const Effect& effect) {
    if (auto lost = weather_.Before(what)) return *lost;
    const uint64_t before = store_.Version();
    base::Result<Json> answer = effect();
    const bool wrote = store_.Version() != before;
    if (wrote) ++writes_;
    const std::string bytes = wrote ? store_.LastBytes(resource.plural) : std::string();
    const std::string outcome =
        answer ? "at " + codec::GetString((*answer)["metadata"], "resourceVersion")
               : std::string(base::CodeName(answer.error().code));
    trace_.Note(fmt::format("api {} -> {}{}{}", what, outcome, body.empty() ? "" : " ", body));
    if (auto lost = weather_.After(what)) return *lost;
    if (!answer) return answer.error();
    return wrote ? bytes : codec::Dump(*answer);
  }

  ApiStore& store_;
  Weather& weather_;
  Trace& trace_;
  size_t writes_ = 0;
  bool deposed_ = false;
};

}  // namespace simulation
