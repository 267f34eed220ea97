#include "http/client/address_race.hpp"

#include <chrono>

namespace http {

using boost::system::error_code;

void AddressRace::Run(std::vector<Tcp::endpoint> addresses, Tcp::socket& socket, Done done) {
  addresses_ = std::move(addresses);
  next_ = 0;
  socket_ = &socket;
  done_ = std::move(done);
  over_ = false;
  if (addresses_.empty()) return std::exchange(done_, nullptr)(boost::asio::error::host_not_found);
  TryNext();
}

void AddressRace::Cancel() {
  over_ = true;
  CloseAll();
}

void AddressRace::TryNext() {
  if (over_ || next_ == addresses_.size() || trying_.size() == kMostAtOnce) return;
  trying_.emplace_back(io_);
  const auto which = std::prev(trying_.end());
  which->async_connect(addresses_[next_++],
                       [this, which](const error_code& code) { Finished(which, code); });
  if (next_ == addresses_.size()) return;
  timer_.expires_after(kHeadStart);
  timer_.async_wait([this](const error_code& code) {
    if (!code) TryNext();
  });
}

void AddressRace::Finished(std::list<Tcp::socket>::iterator which, const error_code& code) {
  const bool won = !code && !over_;
  if (won) *socket_ = std::move(*which);
  trying_.erase(which);
  if (won) {
    over_ = true;
    CloseAll();
  } else {
    TryNext();
  }
  if (!done_ || (!won && !trying_.empty())) return;
  std::exchange(done_, nullptr)(won    ? error_code{}
                                : code ? code
                                       : boost::asio::error::operation_aborted);
}

/// Their handlers are still called, each with an error.
void AddressRace::CloseAll() {
  timer_.cancel();
  error_code ignored;
  for (Tcp::socket& socket : trying_) socket.close(ignored);
}

}  // namespace http
