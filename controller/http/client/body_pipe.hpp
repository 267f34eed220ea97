#pragma once

#include <cpprest/astreambuf.h>
#include <pplx/pplxtasks.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.hpp"

namespace http {

/// The push sink that cpprestsdk writes a body into, drained by the thread that made the call. When
/// more than `kHigh` bytes wait, the library's write does not complete, so that it does not read
/// the socket (its own buffers have no bound).
class BodyPipe final : public concurrency::streams::details::streambuf_state_manager<uint8_t> {
 public:
  static constexpr size_t kHigh = 512 << 10;

  BodyPipe() : streambuf_state_manager(std::ios_base::out) {}
  ~BodyPipe() override { Discard(); }

  struct State {
    std::string bytes;     ///< What has arrived.
    bool head = false;     ///< OnHead was called.
    bool done = false;     ///< OnDone was called: nothing comes any more.
    bool stopped = false;  ///< Wake was called.
  };
  void OnHead();
  void OnDone();
  void Wake();
  /// Waits until the head (or, else, bytes) is there, the end, Wake, or the deadline. Takes the
  /// bytes, unless it waits for the head. `spent` is a buffer that it took before: used again while
  /// as much goes on arriving, so that a long stream is not one page fault after the other.
  State Wait(base::MonoTime deadline, bool for_head, std::string spent = {});
  /// Waits for the end only.
  void AwaitDone(base::MonoTime deadline);
  /// From now on bytes are thrown away, and the library never waits for us.
  void Discard();

  bool can_seek() const override { return false; }
  bool has_size() const override { return false; }
  size_t buffer_size(std::ios_base::openmode) const override { return 0; }
  void set_buffer_size(size_t, std::ios_base::openmode) override {}
  size_t in_avail() const override { return 0; }
  pos_type getpos(std::ios_base::openmode) const override {
    return static_cast<pos_type>(traits::eof());
  }
  pos_type seekpos(pos_type, std::ios_base::openmode) override {
    return static_cast<pos_type>(traits::eof());
  }
  pos_type seekoff(off_type, std::ios_base::seekdir, std::ios_base::openmode) override {
    return static_cast<pos_type>(traits::eof());
  }
  bool acquire(uint8_t*& pointer, size_t& count) override {
    pointer = nullptr;
    count = 0;
    return false;
  }
  void release(uint8_t*, size_t) override {}

 protected:
  pplx::task<int_type> _putc(uint8_t byte) override;
  pplx::task<size_t> _putn(const uint8_t* bytes, size_t count) override;
  pplx::task<int_type> _bumpc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  int_type _sbumpc() override { return traits::eof(); }
  pplx::task<int_type> _getc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  int_type _sgetc() override { return traits::eof(); }
  pplx::task<int_type> _nextc() override { return pplx::task_from_result<int_type>(traits::eof()); }
  pplx::task<int_type> _ungetc() override {
    return pplx::task_from_result<int_type>(traits::eof());
  }
  pplx::task<size_t> _getn(uint8_t*, size_t) override { return pplx::task_from_result<size_t>(0); }
  size_t _scopy(uint8_t*, size_t) override { return 0; }
  pplx::task<bool> _sync() override { return pplx::task_from_result(true); }
  uint8_t* _alloc(size_t) override { return nullptr; }
  void _commit(size_t) override {}

 private:
  struct Blocked {
    pplx::task_completion_event<size_t> event;
    size_t count = 0;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  State state_;
  bool discarding_ = false;
  std::optional<Blocked> blocked_;
};

}  // namespace http
