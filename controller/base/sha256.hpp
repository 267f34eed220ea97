#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace base {

using Sha256Digest = std::array<uint8_t, 32>;

/// Incremental SHA-256 (OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void Update(std::string_view bytes);
  /// Ends the computation; the object may not be used afterwards.
  Sha256Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256Digest Sha256Of(std::string_view bytes);
std::string Hex(std::span<const uint8_t> bytes);
/// "sha256:" and 64 lower-case hex digits: how digests are written everywhere in this project.
std::string DigestText(const Sha256Digest& digest);
/// Compares without leaking by time where the first difference is.
bool ConstantTimeEqual(std::string_view a, std::string_view b);
/// `count` bytes from the operating system's generator.
std::string RandomBytes(size_t count);
/// A random RFC 4122 version 4 UUID.
std::string RandomUuid();

}  // namespace base
