#include "http/server/connection.hpp"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"
#include "http/server/responder.hpp"
#include "http/server/response_head.hpp"
#include "http/server/stream_state.hpp"

namespace http {
namespace {

constexpr size_t kLingerBytes = 256 << 10;
constexpr size_t kKeptCapacity = 64 << 10;

/// What a client can do about a refusal of the connection itself.
std::string_view HintFor(int status) {
  switch (status) {
    case 408:
      return "send the whole request in time";
    case 413:
      return "send a smaller body";
    case 431:
      return "send fewer or shorter headers";
    case 500:
      return "the log of this server says more";
    case 503:
      return "repeat the request after Retry-After";
    default:
      return "send a well-formed request of HTTP/1.1";
  }
}

Response PlainError(int status, std::string_view problem) {
  Response response;
  response.status = status;
  response.headers = {{"Content-Type", "application/json"}};
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  response.body = fmt::format("{{\"error\":\"http_{}\",\"message\":\"{}\",\"hint\":\"{}\"}}\n",
                              status, problem, HintFor(status));
  return response;
}

}  // namespace

Connection::Connection(std::shared_ptr<ServerCore> core, std::shared_ptr<IoLoop> loop,
                       Accepted accepted)
    : core_(std::move(core)),
      loop_(std::move(loop)),
      peer_(std::move(accepted.peer)),
      parser_({core_->options.header_limit, core_->options.body_limit}) {
  phase_ = accepted.tls ? Phase::kHandshake : Phase::kHead;
  transport_.emplace(std::move(accepted.fd), accepted.tls.get());
}

Connection::~Connection() = default;

bool Connection::Begin(std::function<void(Connection*)> on_closed) {
  on_closed_ = std::move(on_closed);
  interest_ = EPOLLIN | EPOLLRDHUP;
  if (phase_ == Phase::kHandshake && !transport_->Tls()) return false;
  if (!loop_->Add(transport_->Fd(), interest_, this)) return false;
  loop_->Arm(timer_, Deadline::kHead, this);
  return true;
}

void Connection::OnReady(uint32_t events) {
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kHandshake) {
    ContinueHandshake();
    if (phase_ != Phase::kHead) return;
  }
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return Close();
  if (want_write_) Flush();
  if (phase_ == Phase::kClosed || (events & (EPOLLIN | EPOLLRDHUP)) == 0) return;
  if (AcceptsInput()) {
    OnReadable();
  } else {
    if ((events & EPOLLRDHUP) != 0) OnPeerEnd();
    reading_ = false;  // Told again when the phase takes input.
  }
  if (phase_ != Phase::kClosed) UpdateInterest();
}

void Connection::ContinueHandshake() {
  switch (transport_->Handshake()) {
    case Transport::Io::kOk:
      subject_ = transport_->ClientSubject();
      phase_ = Phase::kHead;
      want_write_ = false;
      break;
    case Transport::Io::kWantRead:
      want_write_ = false;
      break;
    case Transport::Io::kWantWrite:
      want_write_ = true;
      break;
    default:
      return Close();
  }
  UpdateInterest();
}

void Connection::OnReadable() {
  constexpr int kRounds = 32;  // Then others have their turn.
  auto& scratch = loop_->Scratch();
  for (int round = 0; round < kRounds; ++round) {
    const auto [io, count] = transport_->Receive(scratch.data(), scratch.size());
    if (io == Transport::Io::kEnd) return OnPeerEnd();
    if (io == Transport::Io::kBroken) return Close();
    if (io != Transport::Io::kOk) {
      want_write_ = want_write_ || io == Transport::Io::kWantWrite;
      return;
    }
    Absorb({scratch.data(), count});
    if (phase_ == Phase::kClosed || !AcceptsInput()) return;
    if (!transport_->Pending()) return;
  }
  loop_->Post([self = shared_from_this()] {
    if (self->AcceptsInput()) self->OnReadable();
    if (self->phase_ != Phase::kClosed) self->UpdateInterest();
  });
}

void Connection::OnPeerEnd() {
  if (AcceptsInput() || phase_ == Phase::kStream) return Close();
  peer_ended_ = true;
}

void Connection::Absorb(std::string_view bytes) {
  if (phase_ == Phase::kLinger) {
    lingered_ += bytes.size();
    if (lingered_ > kLingerBytes) Close();
    return;
  }
  if (in_pos_ < in_.size()) {
    in_.append(bytes);
    return ProcessPending();
  }
  const size_t consumed = Process(bytes);
  if (phase_ == Phase::kClosed) return;
  in_pos_ = 0;
  in_.assign(bytes.substr(consumed));
}

void Connection::ProcessPending() {
  if (in_pos_ >= in_.size() || processing_) return;
  in_pos_ += Process(std::string_view(in_).substr(in_pos_));
  if (in_pos_ >= in_.size()) {
    in_.clear();
    in_pos_ = 0;
    if (in_.capacity() > kKeptCapacity) in_.shrink_to_fit();
  } else if (in_pos_ > kKeptCapacity / 2) {
    in_.erase(0, in_pos_);
    in_pos_ = 0;
  }
}

size_t Connection::Process(std::string_view bytes) {
  processing_ = true;
  size_t position = 0;
  while (phase_ == Phase::kHead || phase_ == Phase::kBody) {
    if (phase_ == Phase::kHead) {
      if (position == bytes.size()) break;
      if (timer_.kind != Deadline::kHead) loop_->Arm(timer_, Deadline::kHead, this);
    }
    const auto step = parser_.Feed(bytes.substr(position));
    position += step.consumed;
    if (step.outcome == RequestParser::Outcome::kError) {
      Refuse(parser_.status(), parser_.problem());
    } else if (step.outcome == RequestParser::Outcome::kHead) {
      if (OnHead(bytes.size() - position)) phase_ = Phase::kBody;
    } else if (!ChargeBody()) {
      Refuse(503, "too many bodies at once");
    } else if (step.outcome == RequestParser::Outcome::kDone) {
      Dispatch();
    } else {
      break;
    }
  }
  processing_ = false;
  return position;
}

bool Connection::ChargeBody() {
  const size_t size = parser_.request().body.size();
  if (size <= body_taken_) return true;
  if (!core_->TakeBodyBytes(size - body_taken_)) return false;
  body_taken_ = size;
  return true;
}

void Connection::ReleaseBody() {
  if (body_taken_ == 0) return;
  core_->body_bytes.fetch_sub(body_taken_);
  body_taken_ = 0;
}

bool Connection::OnHead(size_t bytes_at_hand) {
  const HeadFacts& facts = parser_.facts();
  keep_alive_ = facts.keep_alive && !draining_;
  http10_ = facts.http10;
  head_request_ = parser_.request().method == "HEAD";
  try {
    if (core_->handlers.head_check) {
      if (auto refusal = core_->handlers.head_check(parser_.request())) {
        keep_alive_ = false;
        BeginAnswer(*std::move(refusal));
        Flush();
        return false;
      }
    }
    mode_ = core_->handlers.mode ? core_->handlers.mode(parser_.request()) : Mode::kWorker;
  } catch (const std::exception& error) {
    base::LogError("HTTP head check failed", {{"error", error.what()}});
    Refuse(500, "internal error");
    return false;
  }
  if (mode_ == Mode::kWorker && core_->workers.Full()) {
    Refuse(503, "too many requests at once");
    return false;
  }
  if (!facts.HasBody()) return true;
  loop_->Arm(timer_, Deadline::kBody, this);
  if (facts.expect_continue && !http10_ && bytes_at_hand == 0) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    FlushBuffers();
  }
  return phase_ != Phase::kClosed;
}

void Connection::Dispatch() {
  phase_ = Phase::kHandling;
  ++request_id_;
  loop_->Disarm(timer_);
  std::swap(handed_.request, parser_.request());
  handed_.peer = peer_;
  handed_.client_subject = subject_;
  handed_.mode = mode_;
  if (mode_ == Mode::kInline)
    RunInline();
  else
    SubmitToWorker();
}

void Connection::RunInline() {
  in_handler_ = true;
  try {
    core_->handlers.handle(std::move(handed_),
                           std::make_unique<ConnectionResponder>(shared_from_this(), request_id_));
  } catch (const std::exception& error) {
    base::LogError("HTTP handler failed", {{"error", error.what()}});
  }
  in_handler_ = false;
  if (phase_ != Phase::kHandling && phase_ != Phase::kClosed) Flush();
}

void Connection::SubmitToWorker() {
  auto request = std::make_shared<ServerRequest>(std::move(handed_));
  handed_ = {};
  const bool taken = core_->workers.Submit([self = shared_from_this(), request, id = request_id_] {
    try {
      self->core_->handlers.handle(std::move(*request),
                                   std::make_unique<ConnectionResponder>(self, id));
    } catch (const std::exception& error) {
      base::LogError("HTTP handler failed", {{"error", error.what()}});
    }
  });
  if (!taken) Refuse(503, "too many requests at once");
}

void Connection::Refuse(int status, std::string_view problem) {
  keep_alive_ = false;
  ++request_id_;
  BeginAnswer(PlainError(status, problem));
  Flush();
}

void Connection::OnDeadline() {
  if (phase_ == Phase::kClosed) return;
  switch (timer_.kind) {
    case Deadline::kHead:
    case Deadline::kBody:
      // Somebody who sent nothing at all is not owed an answer.
      if (phase_ == Phase::kHandshake || (phase_ == Phase::kHead && in_.empty())) return Close();
      return Refuse(408, "the request took too long");
    case Deadline::kWrite: {
      const linger at_once{1, 0};  // What the peer does not read is not kept by the kernel either.
      ::setsockopt(transport_->Fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      return Close();
    }
    default:
      return Close();
  }
}

void Connection::Drain() {
  if (phase_ == Phase::kClosed) return;
  draining_ = true;
  keep_alive_ = false;
  if (phase_ == Phase::kHandshake || (phase_ == Phase::kHead && in_pos_ >= in_.size()))
    return Close();
  if (phase_ == Phase::kStream && stream_) {
    const auto stream = stream_;
    stream->Finish();
    Flush();
  }
}

void Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  const auto self = shared_from_this();
  loop_->Disarm(timer_);
  loop_->Remove(transport_->Fd());
  transport_.reset();
  file_.Reset();
  ReleaseBody();
  if (auto stream = std::move(stream_)) stream->Closed();
  loop_->Bury(self);
  if (on_closed_) on_closed_(this);
  core_->ConnectionClosed();
}

void Connection::BeginLinger() {
  // Closing with unread bytes in the socket would reset the connection, and the peer might lose our
  // answer.
  phase_ = Phase::kLinger;
  in_.clear();
  in_pos_ = 0;
  reading_ = true;
  peer_ended_ = false;
  transport_->ShutdownWrite();
  loop_->Arm(timer_, Deadline::kLinger, this);
  UpdateInterest();
}

void Connection::UpdateInterest() {
  uint32_t wanted = 0;
  if (!peer_ended_) wanted |= EPOLLRDHUP;
  if (reading_) wanted |= EPOLLIN;
  if (want_write_) wanted |= EPOLLOUT;
  if (wanted == interest_) return;
  interest_ = wanted;
  loop_->Modify(transport_->Fd(), wanted, this);
}

}  // namespace http
