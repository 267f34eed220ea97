#include "app/settings/settings.hpp"

#include <doctest/doctest.h>

TEST_CASE("what the settings file leaves out keeps its default, and what it sets is taken") {
  app::Settings defaults;
  defaults.agent_url = "https://default";
  const auto read = app::ParseSettings(
      "timing: {resyncSeconds: 0.5, probeEvery: 3}\nlog: {level: debug}\n", defaults);
  REQUIRE(read);
  CHECK(read->policy.resync == base::Millis{500});
  CHECK(read->policy.probe_every == 3);
  CHECK(read->policy.gather == defaults.policy.gather);
  CHECK(read->log_level == base::LogLevel::kDebug);
  CHECK(read->agent_url == "https://default");
  CHECK(app::ParseSettings("", defaults)->log_level == std::nullopt);
}

TEST_CASE("what a scheme stands for is known to those who decide what is privileged") {
  const auto read = app::ParseSettings(
      "sources: {giteaURL: 'https://git.example.org', githubURL: 'https://hub.example.org'}\n", {});
  REQUIRE(read);
  CHECK(read->policy.gitea_base_url == "https://git.example.org");
  CHECK(read->policy.github_base_url == "https://hub.example.org");
}

TEST_CASE("a wrong setting is named by its path, with what would be right") {
  const struct {
    const char* yaml;
    const char* named;
  } rows[] = {
      {"timing: {resyncSecondz: 3}", "`timing.resyncSecondz` is not known; known here: "},
      {"timing: {resyncSeconds: soon}", "`timing.resyncSeconds` must be a number of seconds"},
      {"timing: {resyncSeconds: 0}", "`timing.resyncSeconds` must be"},
      {"timing: {probeEvery: 1.5}", "`timing.probeEvery` must be a whole number from 1 to 1000"},
      {"log: {level: loud}", "`log.level` must be debug, info, warning or error"},
      {"log: {level: 3}", "`log.level` must be"},
      {"sources: {allowUnpinned: 1}", "`sources.allowUnpinned` must be true or false"},
      {"sources: {allowedHosts: [1]}", "`sources.allowedHosts` must be a list of texts"},
      {"privilegedPlugins: [{name: a}]", "`privilegedPlugins[0].source` must be set"},
      {"privilegedPlugins: [{name: a, source: b, management: true}, {name: c, source: d, "
       "management: true}]",
       "`privilegedPlugins[1].management` must be true for one plugin only"},
      {"[]", "`(file)` must be a mapping"},
      {"a: 1\n---\nb: 2", "one document is expected"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.yaml);
    const auto read = app::ParseSettings(row.yaml, {});
    REQUIRE_FALSE(read);
    CHECK(read.error().reason == "SettingsInvalid");
    CHECK(read.error().message.find(row.named) != std::string::npos);
    CAPTURE(read.error().message);
  }
}
