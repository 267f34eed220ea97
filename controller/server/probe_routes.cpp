#include "codec/json.hpp"
#include "server/answers.hpp"
#include "server/routes.hpp"

namespace server {
namespace {

http::Response RunChecks(const std::vector<Check>& checks) {
  bool fine = true;
  codec::Json list = codec::Json::array();
  for (const Check& check : checks) {
    const auto problem = check.problem();
    codec::Json entry = {{"name", check.name}, {"ok", !problem}};
    if (problem) entry["problem"] = *problem;
    if (problem && check.advisory) entry["advisory"] = true;
    fine = fine && (!problem || check.advisory);
    list.push_back(std::move(entry));
  }
  codec::Json body = {{"status", fine ? "ok" : "failing"}, {"checks", std::move(list)}};
  if (!fine) {
    body["error"] = "not_ready";
    body["message"] = "a check fails; see `checks`";
    body["hint"] = "`problem` of a check says what it waits for; docs/runbooks has a page an alert";
  }
  auto response = JsonResponse(fine ? 200 : 503, codec::Dump(body));
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

}  // namespace

void HandleHealth(Context& context, Call& call) { call.out.Send(RunChecks(context.ports.health)); }

void HandleReady(Context& context, Call& call) { call.out.Send(RunChecks(context.ports.ready)); }

void HandleMetrics(Context& context, Call& call) {
  if (!context.ports.metrics) return call.out.Send(NotWired());
  if (context.ports.may_scrape) {
    const auto may = context.ports.may_scrape(std::string(BearerToken(call.in.request.headers)));
    if (!may) return call.out.Send(ErrorResponse(may.error()));
  }
  http::Response response;
  response.status = 200;
  response.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}};
  response.body = context.ports.metrics();
  call.out.Send(std::move(response));
}

void HandleBuildInfo(Context& context, Call& call) {
  const BuildInfo& build = context.ports.build;
  const codec::Json body = {
      {"version", build.version}, {"commit", build.commit}, {"mode", build.mode}};
  call.out.Send(JsonResponse(200, codec::Dump(body)));
}

}  // namespace server
