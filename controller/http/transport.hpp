#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.hpp"

namespace http {

/// A non-blocking socket, plain or TLS. Never throws. SIGPIPE must be blocked or ignored.
class Transport {
 public:
  enum class Io { kOk, kWantRead, kWantWrite, kEnd, kBroken };
  struct Count {
    Io io = Io::kBroken;
    size_t bytes = 0;
  };

  /// The server's side; plain without a context.
  Transport(base::UniqueFd fd, SSL_CTX* context);
  /// The client's: the peer's certificate must bear `server_name`, a DNS name or an address.
  Transport(base::UniqueFd fd, SSL_CTX* context, const std::string& server_name);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  int Fd() const { return fd_.Get(); }
  bool Tls() const { return ssl_ != nullptr; }
  /// Bytes are decrypted or at hand inside of TLS: the socket will not say so.
  bool Pending() const;
  Io Handshake();
  Count Receive(char* to, size_t room);
  Count Send(std::string_view bytes);
  /// Plain only: sendfile.
  Count SendFile(int file, uint64_t offset, size_t length);
  /// Ends our direction (close_notify, FIN).
  void ShutdownWrite();
  /// "CN=...,O=..." of a verified client certificate, or empty.
  std::string ClientSubject() const;

 private:
  Count SslResult(int result);
  base::UniqueFd fd_;
  SSL* ssl_ = nullptr;
};

}  // namespace http
