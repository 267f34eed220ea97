#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/server/connection.hpp"
#include "http/server/response_head.hpp"
#include "http/server/stream_state.hpp"

/// The half of Connection that sends: answers, files and streams, and what is done when the peer
/// does not take them.
namespace http {
namespace {

constexpr size_t kSmallBody = 16 << 10;
constexpr size_t kKeptCapacity = 64 << 10;

}  // namespace

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

}  // namespace http
