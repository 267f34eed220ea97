#pragma once

#include <memory>
#include <utility>

#include "http/server/connection.hpp"

namespace http {

/// Answers one request of a connection; dropped unanswered it answers 500.
class ConnectionResponder final : public Responder {
 public:
  ConnectionResponder(std::shared_ptr<Connection> connection, uint64_t id)
      : connection_(std::move(connection)), id_(id) {}
  ~ConnectionResponder() override {
    if (connection_)
      Send({.status = 500, .headers = {{"Content-Type", "application/json"}}, .body = kUnanswered});
  }
  void Send(Response response) override {
    if (auto connection = std::move(connection_)) connection->Answer(id_, std::move(response));
  }
  void SendFile(Response head, int fd, uint64_t offset, uint64_t length) override {
    base::UniqueFd file(fd);
    if (auto connection = std::move(connection_))
      connection->AnswerFile(id_, std::move(head), std::move(file), {offset, length});
  }
  std::shared_ptr<ResponseStream> StartStream(Response head, size_t buffer_limit) override {
    auto connection = std::move(connection_);
    return connection ? connection->AnswerStream(id_, std::move(head), buffer_limit) : nullptr;
  }

 private:
  static constexpr const char* kUnanswered =
      "{\"error\":\"internal\",\"message\":\"the request was not answered\","
      "\"hint\":\"the log of this server says more\"}\n";
  std::shared_ptr<Connection> connection_;
  uint64_t id_;
};

}  // namespace http
