#include "http/transport.hpp"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "http/pem.hpp"

namespace http {
namespace {

base::Error BadMaterial(std::string_view what) {
  return base::MakeError(
      base::Code::kInvalid,
      "TLS material of the HTTP server: " + std::string(what) + ": " + LastTlsError(),
      "BadTlsMaterial");
}

int SelectHttp11(SSL*, const unsigned char** out, unsigned char* out_length,
                 const unsigned char* in, unsigned int in_length, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, kOurs, sizeof kOurs - 1, in, in_length) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// A missing client certificate is the handler's business (it may carry a token); a bad one is
/// refused here.
base::Status TrustClients(SSL_CTX* context, const std::string& ca_pem) {
  const auto certificates = ReadCertificates(ca_pem);
  if (certificates.empty()) return BadMaterial("the client CA holds no certificate");
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const auto& certificate : certificates) {
    X509_STORE_add_cert(store, certificate.get());
    SSL_CTX_add_client_CA(context, certificate.get());
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, nullptr);
  return {};
}

}  // namespace

base::Result<std::shared_ptr<SSL_CTX>> MakeServerContext(const TlsMaterial& material) {
  ERR_clear_error();
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (!context) return BadMaterial("no context");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE |
                                         SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  // A record's head and body in one call to the kernel; a heartbeat is one record.
  SSL_CTX_set_read_ahead(context.get(), 1);
  static constexpr unsigned char kSession[] = "workspace-operator";
  SSL_CTX_set_session_id_context(context.get(), kSession, sizeof kSession - 1);
  SSL_CTX_set_alpn_select_cb(context.get(), SelectHttp11, nullptr);
  const auto chain = ReadCertificates(material.certificate_chain_pem);
  if (chain.empty()) return BadMaterial("no certificate");
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1)
    return BadMaterial("certificate");
  for (size_t i = 1; i < chain.size(); ++i)
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) return BadMaterial("chain");
  const auto key = ReadPrivateKey(material.private_key_pem);
  if (!key) return BadMaterial("no private key");
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1)
    return BadMaterial("the private key does not belong to the certificate");
  if (!material.client_ca_pem.empty())
    if (auto status = TrustClients(context.get(), material.client_ca_pem); !status)
      return status.error();
  return context;
}

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
  ERR_clear_error();
  return SslResult(SSL_do_handshake(ssl_)).io;
}

Transport::Count Transport::Receive(char* to, size_t room) {
  if (ssl_ != nullptr) {
    ERR_clear_error();
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
    ERR_clear_error();
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
    ERR_clear_error();
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
