#include "server/authority.hpp"

#include <doctest/doctest.h>

#include "base/base64.hpp"
#include "codec/json.hpp"

namespace {

using server::Authority;
using server::AuthorityPolicy;

const AuthorityPolicy kPolicy{base::Seconds{100'000}, base::Seconds{1'000}, base::Seconds{3'000}};

base::WallTime Now() { return base::SystemClock::Get().Read().wall; }

Authority Planned(const std::optional<Authority>& stored, base::WallTime now) {
  auto plan = server::PlanAuthority(stored, kPolicy, now);
  REQUIRE(plan.has_value());
  REQUIRE(plan->has_value());
  return **plan;
}

bool NothingToDo(const Authority& stored, base::WallTime now) {
  auto plan = server::PlanAuthority(stored, kPolicy, now);
  return plan.has_value() && !plan->has_value();
}

bool Trusts(const Authority& authority, const std::string& pem) {
  return authority.Bundle().find(pem) != std::string::npos;
}

}  // namespace

TEST_CASE("an authority is made once, then left alone for four fifths of its life") {
  const Authority first = Planned(std::nullopt, Now());
  CHECK(NothingToDo(first, Now()));
  CHECK(NothingToDo(first, Now() + base::Seconds{70'000}));
  CHECK(first.Bundle() == first.current.certificate_pem);
}

TEST_CASE("the successor is trusted for the overlap before it signs, the old one until it ends") {
  const Authority first = Planned(std::nullopt, Now());
  const Authority announced = Planned(first, Now() + base::Seconds{81'000});
  CHECK(announced.current.certificate_pem == first.current.certificate_pem);
  REQUIRE(announced.next);
  CHECK(Trusts(announced, announced.next->certificate_pem));
  CHECK(
      NothingToDo(announced, Now() + base::Seconds{500}));  // next was made now, on the real clock

  const Authority promoted = Planned(announced, Now() + base::Seconds{1'001});
  CHECK(promoted.current.certificate_pem == announced.next->certificate_pem);
  CHECK_FALSE(promoted.next);
  CHECK(Trusts(promoted, first.current.certificate_pem));
  CHECK(NothingToDo(promoted, Now() + base::Seconds{2'000}));

  Authority later = promoted;
  later.current = Planned(std::nullopt, Now()).current;
  later.retired_pem.push_back("not a certificate\n");
  CHECK(Planned(later, Now()).retired_pem.size() == 1);
}

TEST_CASE("an authority that ended is replaced at once") {
  const Authority first = Planned(std::nullopt, Now());
  const Authority replaced = Planned(first, Now() + base::Seconds{100'001});
  CHECK(replaced.current.certificate_pem != first.current.certificate_pem);
  CHECK_FALSE(replaced.next);
  CHECK(replaced.retired_pem.empty());
}

TEST_CASE("the Secret holds it all and gives it back") {
  Authority authority = Planned(std::nullopt, Now());
  authority = Planned(authority, Now() + base::Seconds{81'000});
  authority.retired_pem.push_back(Planned(std::nullopt, Now()).current.certificate_pem);
  authority.resource_version = "41";
  const std::string secret = server::EncodeAuthority(authority, "ops", "ca");
  const auto read = server::DecodeAuthority(secret);
  REQUIRE(read.has_value());
  CHECK(read->Bundle() == authority.Bundle());
  CHECK(read->current.private_key_pem == authority.current.private_key_pem);
  CHECK(read->next->private_key_pem == authority.next->private_key_pem);
  CHECK(read->retired_pem == authority.retired_pem);
  CHECK(read->resource_version == "41");
}

TEST_CASE("a Secret that cannot be used is refused by name, with the way out") {
  const Authority authority = Planned(std::nullopt, Now());
  const auto with = [&](const char* key, const std::string& text) {
    auto json = codec::ParseJson(server::EncodeAuthority(authority, "ops", "ca"));
    REQUIRE(json.has_value());
    (*json)["data"][key] = text;
    return server::DecodeAuthority(codec::Dump(*json));
  };
  const std::string foreign =
      base::EncodeBase64(Planned(std::nullopt, Now()).current.private_key_pem);
  for (const auto& [key, text] : std::initializer_list<std::pair<const char*, std::string>>{
           {"tls.crt", ""},
           {"tls.key", "!!!"},
           {"tls.key", foreign},
           {"next.crt", base::EncodeBase64("-----BEGIN CERTIFICATE-----")}}) {
    CAPTURE(key);
    const auto read = with(key, text);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().reason == "AuthoritySecretMalformed");
    CHECK(read.error().message.find("ops/ca") != std::string::npos);
    CHECK(read.error().message.find("delete it") != std::string::npos);
  }
}

TEST_CASE("a serving certificate is renewed after two thirds of its life") {
  const Authority authority = Planned(std::nullopt, Now());
  const auto made = http::MakeServingCertificate(authority.current, "x", {"localhost"}, {},
                                                 base::Seconds{30'000});
  REQUIRE(made.has_value());
  CHECK_FALSE(server::WantsRenewal(made->certificate_pem, Now()));
  CHECK_FALSE(server::WantsRenewal(made->certificate_pem, Now() + base::Seconds{19'000}));
  CHECK(server::WantsRenewal(made->certificate_pem, Now() + base::Seconds{20'001}));
  CHECK(server::WantsRenewal("", Now()));
  // The clock was ahead when it was made, and is right again.
  CHECK_FALSE(server::WantsRenewal(made->certificate_pem, Now() - base::Seconds{86'000}));
  CHECK(server::WantsRenewal(made->certificate_pem, Now() - base::Seconds{90'000}));
}

TEST_CASE("what is made here is valid for peers whose clocks are hours behind") {
  const Authority authority = Planned(std::nullopt, Now());
  const auto made = http::MakeServingCertificate(authority.current, "x", {"localhost"}, {},
                                                 base::Seconds{30'000});
  REQUIRE(made.has_value());
  for (const std::string& pem : {authority.current.certificate_pem, made->certificate_pem}) {
    CHECK_FALSE(server::NotYetValid(pem, Now() - base::Seconds{14 * 3600}));
    CHECK(server::NotYetValid(pem, Now() - base::Seconds{25 * 3600}));
  }
  // Nobody's slow clock throws away what others trust.
  CHECK(NothingToDo(authority, Now() - base::Seconds{25 * 3600}));
}
