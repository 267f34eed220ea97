#include "app/cluster/election.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

TEST_CASE("what replicas are told to reach a leader by is an address that is its own") {
  struct Row {
    std::string name;
    std::string advertise;
    std::string own;
    const char* pod_ip;
    std::string wanted;
  };
  const Row rows[] = {
      {"as the user says", "https://op.example:1", "http://0.0.0.0:8080", "10.0.0.7",
       "https://op.example:1"},
      {"all of IPv4 becomes the Pod's", "", "http://0.0.0.0:8080", "10.0.0.7",
       "http://10.0.0.7:8080"},
      {"all of both becomes the Pod's", "", "https://[::]:8443", "10.0.0.7",
       "https://10.0.0.7:8443"},
      {"an IPv6 address is bracketed", "", "https://[::]:8443", "fd00::7",
       "https://[fd00::7]:8443"},
      {"one address is kept", "", "http://[::1]:8080", "10.0.0.7", "http://[::1]:8080"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    ::setenv("POD_IP", row.pod_ip, 1);
    CHECK(app::AdvertisedUrl(row.advertise, row.own) == row.wanted);
  }
  ::unsetenv("POD_IP");
  // Outside of a Pod it is the machine's name.
  CHECK(app::AdvertisedUrl("", "http://[::]:8080").find("[") == std::string::npos);
}
