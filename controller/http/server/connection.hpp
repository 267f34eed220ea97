#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "http/server/io_loop.hpp"
#include "http/server/request_parser.hpp"
#include "http/server/server_core.hpp"
#include "http/transport.hpp"

namespace http {

class StreamState;

/// One connection of the server, on one loop's thread (but for its Responder and stream, which post
/// to it).
///
///   Handshake -> Head -> Body -> Handling -> Sending -> Head (kept alive) | Linger -> closed
///                                         -> File ----^
///                                         -> Stream --^
/// Any state -> closed on a deadline, a broken socket, or Stop. A head that is refused goes
/// straight to Sending with close.
class Connection final : public Watched, public std::enable_shared_from_this<Connection> {
 public:
  struct Accepted {
    base::UniqueFd fd;
    std::string peer;
    std::shared_ptr<SSL_CTX> tls;  ///< Null: plain.
  };
  Connection(std::shared_ptr<ServerCore> core, std::shared_ptr<IoLoop> loop, Accepted accepted);
  ~Connection() override;

  // On the loop's thread.
  bool Begin(std::function<void(Connection*)> on_closed);
  void OnReady(uint32_t events) override;
  void OnDeadline() override;
  /// Stop was called: closes at once what is idle, ends streams, the rest after its answer.
  void Drain();
  void Close();

  // Any thread: from Responder and stream.
  void Answer(uint64_t id, Response response);
  void AnswerFile(uint64_t id, Response head, base::UniqueFd file,
                  std::pair<uint64_t, uint64_t> range);
  std::shared_ptr<ResponseStream> AnswerStream(uint64_t id, Response head, size_t buffer_limit);
  void PumpStream();
  void AbortStream();

 private:
  enum class Phase {
    kHandshake,
    kHead,
    kBody,
    kHandling,
    kSending,
    kFile,
    kStream,
    kLinger,
    kClosed
  };

  void ContinueHandshake();
  void OnReadable();
  void OnPeerEnd();
  void Absorb(std::string_view bytes);
  /// Parses and handles as much of `bytes` as the phase allows; returns how much that was.
  size_t Process(std::string_view bytes);
  void ProcessPending();
  bool OnHead(size_t bytes_at_hand);
  bool ChargeBody();
  void Dispatch();
  void RunInline();
  void SubmitToWorker();
  void Refuse(int status, std::string_view problem);
  bool Expecting(uint64_t id) const { return id == request_id_ && phase_ == Phase::kHandling; }
  /// Runs `act` here if the handler of this connection is running here, else on the loop.
  template <typename F>
  void OnLoop(F act);
  void BeginAnswer(Response response);
  void BeginFile(Response head, base::UniqueFd file, std::pair<uint64_t, uint64_t> range);
  void BeginStream(Response head, std::shared_ptr<StreamState> stream);
  void AppendHead(const Response& response, std::optional<uint64_t> length, bool chunked);
  /// Sends what there is; ends the answer when all is sent.
  void Flush();
  /// True if all buffered bytes went out; false if blocked or closed.
  bool FlushBuffers();
  bool FlushFile();
  void Blocked(bool progress);
  void Finished();
  void BeginLinger();
  void ReleaseBody();
  void UpdateInterest();
  bool AcceptsInput() const {
    return phase_ == Phase::kHead || phase_ == Phase::kBody || phase_ == Phase::kLinger;
  }

  const std::shared_ptr<ServerCore> core_;
  const std::shared_ptr<IoLoop> loop_;
  std::optional<Transport> transport_;  ///< Empty when closed.
  const std::string peer_;
  std::string subject_;
  std::function<void(Connection*)> on_closed_;
  RequestParser parser_;
  ServerRequest handed_;  ///< Swapped with the parser's, so that strings keep their capacity.
  Phase phase_ = Phase::kHead;
  IoLoop::TimerHandle timer_;
  uint32_t interest_ = 0;  ///< What epoll was told.
  std::string in_;         ///< Bytes that the phase could not take yet.
  size_t in_pos_ = 0;
  std::string out_;  ///< Heads, small bodies, stream chunks.
  size_t out_pos_ = 0;
  std::string tail_;  ///< A large body, sent after out_.
  size_t tail_pos_ = 0;
  base::UniqueFd file_;
  uint64_t file_offset_ = 0;
  uint64_t file_left_ = 0;
  std::shared_ptr<StreamState> stream_;
  uint64_t request_id_ = 0;
  size_t body_taken_ = 0;
  size_t lingered_ = 0;
  bool keep_alive_ = true;
  bool head_request_ = false;
  bool http10_ = false;
  bool in_handler_ =
      false;  ///< A handler runs on this thread: its answer is picked up when it returns.
  bool processing_ = false;
  bool peer_ended_ = false;  ///< Half closed while we were busy: read again afterwards.
  bool reading_ = true;
  bool want_write_ = false;
  bool draining_ = false;
  Mode mode_ = Mode::kWorker;
};

}  // namespace http
