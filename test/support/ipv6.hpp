#pragma once

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/file.hpp"

namespace support {

/// Whether ::1 can be listened on here; where it cannot, the test says aloud that it is not run.
inline bool HasIpv6() {
  const base::UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 at{};
  at.sin6_family = AF_INET6;
  at.sin6_addr = in6addr_loopback;
  const bool bound =
      fd.Valid() && ::bind(fd.Get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
  if (!bound) MESSAGE("NOT RUN: this machine has no IPv6 loopback address");
  return bound;
}

}  // namespace support
