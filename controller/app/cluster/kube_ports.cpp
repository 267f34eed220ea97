#include "app/cluster/kube_ports.hpp"

#include "codec/json.hpp"
#include "kube/lease.hpp"

namespace app {
namespace {

using codec::Json;

runtime::WatchEventType TypeOf(kube::EventType type) {
  switch (type) {
    case kube::EventType::kAdded:
      return runtime::WatchEventType::kAdded;
    case kube::EventType::kModified:
      return runtime::WatchEventType::kModified;
    case kube::EventType::kDeleted:
      return runtime::WatchEventType::kDeleted;
    case kube::EventType::kBookmark:
      return runtime::WatchEventType::kBookmark;
    case kube::EventType::kError:
      return runtime::WatchEventType::kError;
  }
  return runtime::WatchEventType::kError;
}

class KubeListWatch final : public runtime::ListWatch {
 public:
  KubeListWatch(kube::Client& client, kube::Collection from, std::string label_selector)
      : client_(client), from_(std::move(from)), label_selector_(std::move(label_selector)) {}

  base::Result<std::string> List(const runtime::ListOptions& options, const runtime::ListSink& sink,
                                 std::stop_token stop) override {
    kube::ListOptions list;
    list.page_size = options.page_size;
    list.label_selector = label_selector_;
    list.resource_version = options.resource_version;
    if (!options.resource_version.empty()) list.resource_version_match = "NotOlderThan";
    list.call.stop = stop;
    auto result = client_.ListEach(from_, list, sink);
    if (!result) return std::move(result).error();
    return std::move(result->resource_version);
  }

  base::Status Watch(const runtime::WatchOptions& options, const runtime::WatchSink& sink,
                     std::stop_token stop) override {
    kube::WatchOptions watch;
    watch.resource_version = options.resource_version;
    watch.send_initial_events = options.send_initial_events;
    watch.timeout_seconds = options.timeout_seconds;
    watch.label_selector = label_selector_;
    watch.stop = stop;
    watch.on_bytes = options.on_bytes;
    return client_.Watch(from_, watch, [&](const kube::WatchEvent& event) -> base::Status {
      return sink(TypeOf(event.type), event.object);
    });
  }

 private:
  kube::Client& client_;
  kube::Collection from_;
  std::string label_selector_;
};

const kube::Resource kEventsV1{"events.k8s.io", "v1", "events"};

Json Reference(const runtime::EventObject& object) {
  return {{"apiVersion", object.api_version},
          {"kind", object.kind},
          {"namespace", object.ns},
          {"name", object.name},
          {"uid", object.uid}};
}

Json Series(const runtime::Event& event) {
  return {{"count", event.series_count},
          {"lastObservedTime", base::FormatMicroTime(event.series_last_observed)}};
}

class KubeEventSink final : public runtime::EventSink {
 public:
  explicit KubeEventSink(kube::Client& client) : client_(client) {}

  base::Status Create(const runtime::Event& event, std::stop_token stop) override {
    Json body{{"apiVersion", "events.k8s.io/v1"},
              {"kind", "Event"},
              {"metadata", {{"name", event.name}, {"namespace", event.ns}}},
              {"eventTime", base::FormatMicroTime(event.event_time)},
              {"reportingController", event.reporting_controller},
              {"reportingInstance", event.reporting_instance},
              {"action", event.note.action},
              {"reason", event.note.reason},
              {"note", event.note.note},
              {"type", event.note.type == runtime::EventType::kWarning ? "Warning" : "Normal"},
              {"regarding", Reference(event.note.regarding)}};
    if (event.note.related) body["related"] = Reference(*event.note.related);
    if (event.series_count > 0) body["series"] = Series(event);
    kube::WriteOptions options;
    options.call.stop = stop;
    auto made = client_.Create({kEventsV1, event.ns}, codec::Dump(body), options);
    if (!made) return std::move(made).error();
    return {};
  }

  base::Status PatchSeries(const runtime::Event& event, std::stop_token stop) override {
    kube::WriteOptions options;
    options.call.stop = stop;
    const kube::Patch patch{kube::PatchType::kMerge, codec::Dump(Json{{"series", Series(event)}})};
    auto patched = client_.Patch({kEventsV1, event.ns, event.name}, patch, options);
    if (!patched) return std::move(patched).error();
    return {};
  }

 private:
  kube::Client& client_;
};

class KubeLeaseLock final : public runtime::LeaseLock {
 public:
  KubeLeaseLock(kube::Client& client, kube::ObjectRef where)
      : client_(client), where_(std::move(where)) {}

  base::Result<runtime::LeaseRecord> Get(const Call& call) override {
    return Record(kube::GetLease(client_, where_, {call.deadline, call.stop}));
  }
  base::Result<runtime::LeaseRecord> Create(const runtime::LeaseRecord& record,
                                            const Call& call) override {
    return Record(kube::CreateLease(client_, where_, Of(record), {call.deadline, call.stop}));
  }
  base::Result<runtime::LeaseRecord> Update(const runtime::LeaseRecord& record,
                                            const Call& call) override {
    return Record(kube::PatchLease(client_, where_, Of(record), {call.deadline, call.stop}));
  }

 private:
  static kube::Lease Of(const runtime::LeaseRecord& record) {
    return {record.version,    record.holder,
            record.address,    std::chrono::ceil<base::Seconds>(record.duration),
            record.acquired,   record.renewed,
            record.transitions};
  }
  static base::Result<runtime::LeaseRecord> Record(base::Result<kube::Lease> lease) {
    if (!lease) return std::move(lease).error();
    return runtime::LeaseRecord{lease->resource_version, lease->holder,   lease->address,
                                lease->duration,         lease->acquired, lease->renewed,
                                lease->transitions};
  }

  kube::Client& client_;
  const kube::ObjectRef where_;
};

}  // namespace

std::unique_ptr<runtime::LeaseLock> MakeLeaseLock(kube::Client& client, std::string ns,
                                                  std::string name) {
  return std::make_unique<KubeLeaseLock>(
      client, kube::ObjectRef{kube::kLeases, std::move(ns), std::move(name)});
}

std::unique_ptr<runtime::ListWatch> MakeListWatch(kube::Client& client, kube::Resource resource,
                                                  std::string ns, std::string label_selector) {
  return std::make_unique<KubeListWatch>(
      client, kube::Collection{std::move(resource), std::move(ns)}, std::move(label_selector));
}

std::unique_ptr<runtime::EventSink> MakeEventSink(kube::Client& client) {
  return std::make_unique<KubeEventSink>(client);
}

}  // namespace app
