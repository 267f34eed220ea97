#include "http/transport.hpp"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

namespace http {
namespace {

/// What others left on this thread must not be taken for an error of the next call. To clear the
/// queue costs more than to look at it, and it is mostly empty.
void ForgetErrors() {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

}  // namespace

Transport::Transport(base::UniqueFd fd, SSL_CTX* context) : fd_(std::move(fd)) {
  if (context == nullptr) return;
  ssl_ = SSL_new(context);
  if (ssl_ == nullptr) return;
  SSL_set_fd(ssl_, fd_.Get());
  SSL_set_accept_state(ssl_);
}

Transport::Transport(base::UniqueFd fd, SSL_CTX* context, const std::string& server_name)
    : fd_(std::move(fd)) {
  if (context == nullptr) return;
  ssl_ = SSL_new(context);
  if (ssl_ == nullptr) return;
  SSL_set_fd(ssl_, fd_.Get());
  X509_VERIFY_PARAM* verified = SSL_get0_param(ssl_);
  if (X509_VERIFY_PARAM_set1_ip_asc(verified, server_name.c_str()) != 1) {
    SSL_set_tlsext_host_name(ssl_, server_name.c_str());
    X509_VERIFY_PARAM_set_hostflags(verified, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(verified, server_name.c_str(), server_name.size());
  }
  SSL_set_verify(ssl_, SSL_VERIFY_PEER, nullptr);
  SSL_set_connect_state(ssl_);
}

Transport::~Transport() {
  if (ssl_ != nullptr) SSL_free(ssl_);
}

Transport::Count Transport::SslResult(int result) {
  if (result > 0) return {Io::kOk, static_cast<size_t>(result)};
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return {Io::kWantRead, 0};
    case SSL_ERROR_WANT_WRITE:
      return {Io::kWantWrite, 0};
    case SSL_ERROR_ZERO_RETURN:
      return {Io::kEnd, 0};
    default:
      return {Io::kBroken, 0};
  }
}

bool Transport::Pending() const { return ssl_ != nullptr && SSL_has_pending(ssl_) == 1; }

Transport::Io Transport::Handshake() {
  if (ssl_ == nullptr) return Io::kBroken;
  ForgetErrors();
  return SslResult(SSL_do_handshake(ssl_)).io;
}

Transport::Count Transport::Receive(char* to, size_t room) {
  if (ssl_ != nullptr) {
    ForgetErrors();
    return SslResult(SSL_read(ssl_, to, static_cast<int>(room)));
  }
  ssize_t got = 0;
  do got = ::recv(fd_.Get(), to, room, 0);
  while (got < 0 && errno == EINTR);
  if (got > 0) return {Io::kOk, static_cast<size_t>(got)};
  if (got == 0) return {Io::kEnd, 0};
  return {errno == EAGAIN || errno == EWOULDBLOCK ? Io::kWantRead : Io::kBroken, 0};
}

Transport::Count Transport::Send(std::string_view bytes) {
  if (ssl_ != nullptr) {
    ForgetErrors();
    return SslResult(
        SSL_write(ssl_, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), 1 << 30))));
  }
  ssize_t sent = 0;
  do sent = ::send(fd_.Get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {Io::kOk, static_cast<size_t>(sent)};
  return {errno == EAGAIN || errno == EWOULDBLOCK ? Io::kWantWrite : Io::kBroken, 0};
}

Transport::Count Transport::SendFile(int file, uint64_t offset, size_t length) {
  off_t position = static_cast<off_t>(offset);
  ssize_t sent = 0;
  do sent = ::sendfile(fd_.Get(), file, &position, length);
  while (sent < 0 && errno == EINTR);
  if (sent > 0) return {Io::kOk, static_cast<size_t>(sent)};
  if (sent == 0) return {Io::kEnd, 0};
  return {errno == EAGAIN ? Io::kWantWrite : Io::kBroken, 0};
}

void Transport::ShutdownWrite() {
  if (ssl_ != nullptr && SSL_is_init_finished(ssl_)) {
    ForgetErrors();
    SSL_shutdown(ssl_);
  }
  ::shutdown(fd_.Get(), SHUT_WR);
}

std::string Transport::ClientSubject() const {
  if (ssl_ == nullptr) return {};
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl_),
                                                                X509_free);
  if (!certificate || SSL_get_verify_result(ssl_) != X509_V_OK) return {};
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), BIO_free);
  // RFC 2253 prints the last part first: certificates name organisations before the common name.
  if (!text || X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate.get()), 0,
                                  XN_FLAG_RFC2253) < 0)
    return {};
  char* data = nullptr;
  const long length = BIO_get_mem_data(text.get(), &data);
  return length > 0 ? std::string(data, static_cast<size_t>(length)) : std::string();
}

}  // namespace http
