#include "http/connection.hpp"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"
#include "http/responder.hpp"
#include "http/response_head.hpp"
#include "http/stream_state.hpp"

namespace http {
namespace {

constexpr size_t kLingerBytes = 256 << 10;
constexpr size_t kSmallBody = 16 << 10;
constexpr size_t kKeptCapacity = 64 << 10;

Response PlainError(int status, std::string_view problem) {
  Response response;
  response.status = status;
  response.headers = {{"Content-Type", "application/json"}};
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  response.body =
      fmt::format("{{\"error\":\"http_{}\",\"message\":\"{}\",\"hint\":\"\"}}\n", status, problem);
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

template <typename F>
void Connection::OnLoop(F act) {
  if (loop_->OnThread() && in_handler_) return act();
  loop_->Post([self = shared_from_this(), act = std::move(act)]() mutable {
    act();
    if (self->phase_ != Phase::kClosed) self->Flush();
  });
}

void Connection::Answer(uint64_t id, Response response) {
  OnLoop([this, id, response = std::move(response)]() mutable {
    if (Expecting(id)) BeginAnswer(std::move(response));
  });
}

void Connection::AnswerFile(uint64_t id, Response head, base::UniqueFd file,
                            std::pair<uint64_t, uint64_t> range) {
  OnLoop([this, id, head = std::move(head), file = std::move(file), range]() mutable {
    if (Expecting(id)) BeginFile(std::move(head), std::move(file), range);
  });
}

std::shared_ptr<ResponseStream> Connection::AnswerStream(uint64_t id, Response head,
                                                         size_t buffer_limit) {
  // http10_ is settled before the handler is called and stays until it has answered.
  auto state = std::make_shared<StreamState>(shared_from_this(), buffer_limit, !http10_);
  OnLoop([this, id, head = std::move(head), state]() mutable {
    if (Expecting(id))
      BeginStream(std::move(head), std::move(state));
    else
      state->Closed();
  });
  return std::make_shared<StreamHandle>(std::move(state));
}

void Connection::PumpStream() {
  loop_->Post([self = shared_from_this()] {
    if (self->phase_ == Phase::kStream) self->Flush();
  });
}

void Connection::AbortStream() {
  loop_->Post([self = shared_from_this()] {
    if (self->phase_ != Phase::kStream) return;
    const linger at_once{1, 0};
    ::setsockopt(self->transport_->Fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    self->Close();
  });
}

void Connection::AppendHead(const Response& response, std::optional<uint64_t> length,
                            bool chunked) {
  if (WantsClose(response.headers) || draining_) keep_alive_ = false;
  ResponseHead head{response, length, chunked, keep_alive_, http10_};
  head.AppendTo(out_, loop_->Date());
}

void Connection::BeginAnswer(Response response) {
  const bool bodiless = response.status == 204 || response.status == 304 || response.status < 200;
  AppendHead(response, bodiless ? std::nullopt : std::optional<uint64_t>(response.body.size()),
             false);
  phase_ = Phase::kSending;
  if (bodiless || head_request_) return;
  if (response.body.size() <= kSmallBody) {
    out_ += response.body;
  } else {
    tail_ = std::move(response.body);
    tail_pos_ = 0;
  }
}

void Connection::BeginFile(Response head, base::UniqueFd file,
                           std::pair<uint64_t, uint64_t> range) {
  AppendHead(head, range.second, false);
  phase_ = Phase::kFile;
  file_ = std::move(file);
  file_offset_ = range.first;
  file_left_ = head_request_ ? 0 : range.second;
}

void Connection::BeginStream(Response head, std::shared_ptr<StreamState> stream) {
  if (http10_) keep_alive_ = false;
  AppendHead(head, std::nullopt, !http10_);
  if (head_request_) {
    phase_ = Phase::kSending;
    stream->Closed();
    return;
  }
  phase_ = Phase::kStream;
  stream->HeadQueued(out_.size() - out_pos_);
  stream_ = std::move(stream);
  if (draining_) stream_->Finish();
}

void Connection::Flush() {
  if (phase_ == Phase::kClosed) return;
  want_write_ = false;
  if (!FlushBuffers()) return;
  if (phase_ == Phase::kFile && !FlushFile()) return;
  if (phase_ == Phase::kStream) {
    bool last = stream_->Pull(out_);
    while (!out_.empty()) {
      if (!FlushBuffers()) return;
      last = stream_->Pull(out_);
    }
    if (!last) {
      loop_->Disarm(timer_);
      return UpdateInterest();
    }
  }
  if (phase_ == Phase::kSending || phase_ == Phase::kFile || phase_ == Phase::kStream) Finished();
}

bool Connection::FlushBuffers() {
  bool progress = false;
  while (out_pos_ < out_.size() || tail_pos_ < tail_.size()) {
    const bool from_tail = out_pos_ >= out_.size();
    const std::string_view bytes = from_tail ? std::string_view(tail_).substr(tail_pos_)
                                             : std::string_view(out_).substr(out_pos_);
    const auto [io, count] = transport_->Send(bytes);
    if (io == Transport::Io::kWantWrite || io == Transport::Io::kWantRead) {
      Blocked(progress);
      return false;
    }
    if (io != Transport::Io::kOk) {
      Close();
      return false;
    }
    progress = true;
    (from_tail ? tail_pos_ : out_pos_) += count;
    if (stream_) stream_->Sent(count);
  }
  out_.clear();
  if (out_.capacity() > kKeptCapacity) out_.shrink_to_fit();
  if (!tail_.empty()) tail_ = {};
  out_pos_ = tail_pos_ = 0;
  return true;
}

bool Connection::FlushFile() {
  bool progress = false;
  while (file_left_ > 0) {
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(file_left_, 256 << 10));
    Transport::Count sent;
    if (transport_->Tls()) {
      auto& scratch = loop_->Scratch();
      const ssize_t got = ::pread(file_.Get(), scratch.data(), std::min(piece, scratch.size()),
                                  static_cast<off_t>(file_offset_));
      if (got <= 0) {
        Close();  // Shorter than promised: the peer must see a cut, not an end.
        return false;
      }
      out_.assign(scratch.data(), static_cast<size_t>(got));
      file_offset_ += static_cast<uint64_t>(got);
      file_left_ -= static_cast<uint64_t>(got);
      if (!FlushBuffers()) return false;
      continue;
    }
    sent = transport_->SendFile(file_.Get(), file_offset_, piece);
    if (sent.io == Transport::Io::kWantWrite) {
      Blocked(progress);
      return false;
    }
    if (sent.io != Transport::Io::kOk) {
      Close();
      return false;
    }
    progress = true;
    file_offset_ += sent.bytes;
    file_left_ -= sent.bytes;
  }
  file_.Reset();
  return true;
}

void Connection::Blocked(bool progress) {
  want_write_ = true;
  if (phase_ != Phase::kBody && (progress || timer_.kind != Deadline::kWrite))
    loop_->Arm(timer_, Deadline::kWrite, this);
  UpdateInterest();
}

void Connection::Finished() {
  ReleaseBody();
  file_.Reset();
  if (auto stream = std::move(stream_)) stream->Closed();
  if (phase_ == Phase::kClosed) return;
  if (!keep_alive_ || draining_) return BeginLinger();
  phase_ = Phase::kHead;
  parser_.request().body.clear();
  loop_->Arm(timer_, Deadline::kIdle, this);
  reading_ = true;
  peer_ended_ = false;
  if (processing_) return;
  UpdateInterest();
  ProcessPending();
  if (phase_ != Phase::kClosed && AcceptsInput() && transport_->Pending()) OnReadable();
  if (phase_ != Phase::kClosed) UpdateInterest();
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
