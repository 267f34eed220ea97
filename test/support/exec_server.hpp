#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>
// Asio 1.74 needs <utility> before it.
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include "http/message.hpp"
#include "http/tls.hpp"

namespace support {

/// One upgraded connection on the server's side. Errors throw: the script ends.
class ServerSocket {
 public:
  using Stream =
      boost::beast::websocket::stream<boost::asio::ssl::stream<boost::asio::ip::tcp::socket>>;
  explicit ServerSocket(Stream& stream) : stream_(stream) {}

  void Send(char channel, const std::string& payload) {
    stream_.binary(true);
    stream_.write(boost::asio::buffer(channel + payload));
  }
  /// The next message, channel byte first.
  std::string Receive() {
    boost::beast::flat_buffer buffer;
    stream_.read(buffer);
    return boost::beast::buffers_to_string(buffer.data());
  }
  /// Standard input until the client closes it.
  std::string ReadInput() {
    std::string all;
    while (true) {
      const std::string message = Receive();
      if (message == std::string("\xff\0", 2)) return all;
      if (!message.empty() && message[0] == '\0') all += message.substr(1);
    }
  }
  void Close() { stream_.close(boost::beast::websocket::close_code::normal); }
  void Cut() { stream_.next_layer().next_layer().close(); }

 private:
  Stream& stream_;
};

/// A real WebSocket server over TLS on loopback that plays pods/exec by a script. One connection at
/// a time.
class ExecServer {
 public:
  struct Script {
    std::string subprotocol = "v5.channel.k8s.io";
    int refuse_status = 0;  ///< Not 0: answered instead of the upgrade.
    std::string refuse_body = {};
    std::function<void(ServerSocket&)> talk = [](ServerSocket&) {};
  };

  explicit ExecServer(const boost::asio::ip::address& at = boost::asio::ip::address_v4::loopback())
      : authority_(*http::MakeCertificateAuthority("exec-test", base::Seconds(3600))),
        acceptor_(io_, {at, 0}) {
    const auto serving = *http::MakeServingCertificate(authority_, "exec-test", {"localhost"},
                                                       {"127.0.0.1", "::1"}, base::Seconds(3600));
    context_.use_certificate_chain(boost::asio::buffer(serving.certificate_pem));
    context_.use_private_key(boost::asio::buffer(serving.private_key_pem),
                             boost::asio::ssl::context::pem);
    thread_ = std::thread([this] { Serve(); });
  }
  ~ExecServer() {
    stopping_ = true;
    boost::system::error_code ignored;
    boost::asio::ip::tcp::socket(io_).connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
  }

  std::string Url() const {
    const auto at = acceptor_.local_endpoint();
    return "https://" + http::UrlHost(at.address().to_string()) + ":" + std::to_string(at.port());
  }
  const std::string& Ca() const { return authority_.certificate_pem; }
  /// The scripts of the next connections; the last one stays.
  void Play(std::vector<Script> scripts) {
    const std::lock_guard lock(mutex_);
    scripts_ = std::move(scripts);
  }
  std::vector<std::string> Targets() const {
    const std::lock_guard lock(mutex_);
    return targets_;
  }
  std::string LastAuthorization() const {
    const std::lock_guard lock(mutex_);
    return authorization_;
  }

 private:
  void Serve() {
    while (true) {
      boost::asio::ip::tcp::socket socket(io_);
      boost::system::error_code error;
      acceptor_.accept(socket, error);
      if (stopping_) return;
      if (error) continue;
      try {
        Talk(std::move(socket));
      } catch (const std::exception&) {
        // A connection that the client ended: what the client saw is what the test looks at.
      }
    }
  }

  void Talk(boost::asio::ip::tcp::socket socket) {
    ServerSocket::Stream stream(std::move(socket), context_);
    stream.next_layer().handshake(boost::asio::ssl::stream_base::server);
    boost::beast::flat_buffer buffer;
    boost::beast::http::request<boost::beast::http::string_body> request;
    boost::beast::http::read(stream.next_layer(), buffer, request);
    Script script;
    {
      const std::lock_guard lock(mutex_);
      targets_.emplace_back(request.target());
      authorization_ = std::string(request["Authorization"]);
      script = scripts_.front();
      if (scripts_.size() > 1) scripts_.erase(scripts_.begin());
    }
    if (script.refuse_status != 0) {
      boost::beast::http::response<boost::beast::http::string_body> response;
      response.result(static_cast<unsigned>(script.refuse_status));
      response.set("Content-Type", "application/json");
      response.body() = script.refuse_body;
      response.prepare_payload();
      boost::beast::http::write(stream.next_layer(), response);
      return;
    }
    stream.set_option(boost::beast::websocket::stream_base::decorator(
        [&](boost::beast::websocket::response_type& head) {
          head.set("Sec-WebSocket-Protocol", script.subprotocol);
        }));
    stream.accept(request);
    ServerSocket server(stream);
    script.talk(server);
  }

  http::CertificateAndKey authority_;
  boost::asio::io_context io_;
  boost::asio::ssl::context context_{boost::asio::ssl::context::tls_server};
  boost::asio::ip::tcp::acceptor acceptor_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<Script> scripts_{Script{}};
  std::vector<std::string> targets_;
  std::string authorization_;
};

}  // namespace support
