#include "apiserver/schema/resource_definition.hpp"

namespace apiserver {
namespace {

using codec::Json;

struct Renamed {
  const char* core;
  const char* modern;
};
constexpr Renamed kRenamed[] = {{"involvedObject", "regarding"},
                                {"message", "note"},
                                {"source", "deprecatedSource"},
                                {"firstTimestamp", "deprecatedFirstTimestamp"},
                                {"lastTimestamp", "deprecatedLastTimestamp"},
                                {"count", "deprecatedCount"},
                                {"reportingComponent", "reportingController"}};

Json Convert(Json event, bool modern) {
  if (!event.is_object()) return event;
  for (const Renamed& pair : kRenamed) {
    const auto it = event.find(modern ? pair.core : pair.modern);
    if (it == event.end()) continue;
    Json value = std::move(*it);
    event.erase(it);
    event[modern ? pair.modern : pair.core] = std::move(value);
  }
  event["apiVersion"] = modern ? "events.k8s.io/v1" : "v1";
  return event;
}

}  // namespace

Json EventToNew(const Json& core_event) { return Convert(core_event, true); }
Json EventToCore(const Json& new_event) { return Convert(new_event, false); }

}  // namespace apiserver
