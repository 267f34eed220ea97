#include "reconcile/instance_tokens.hpp"

#include <doctest/doctest.h>

TEST_CASE("a token's Secret has a name that the API takes, whatever the workspace's is") {
  using reconcile::InstanceTokens;
  CHECK(InstanceTokens::SecretName("a.b") == "workspace-a.b-token");
  const std::string longest(253, 'b');
  CHECK(InstanceTokens::SecretName(longest.substr(0, 237)).size() == 253);
  const std::string cut = InstanceTokens::SecretName(longest);
  CHECK(cut.size() == 253);
  CHECK(cut != InstanceTokens::SecretName(longest.substr(0, 252)));
  std::string dots(253, '.');
  dots.front() = 'a';
  CHECK(InstanceTokens::SecretName(dots).starts_with("workspace-a-"));
}
