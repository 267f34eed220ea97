#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "box/box.hpp"

namespace box {

/// One call on a box, for metrics: `call` is probe, deliver, ...; `outcome` is ok or an error
/// code's name; `plugins` is how many plugins it succeeded for (0 where it is not about plugins).
struct BoxSample {
  std::string_view call;
  std::string_view outcome;
  size_t plugins = 0;
};

/// `inner`, reporting every call that leaves the process. `observe` must not block.
std::unique_ptr<Box> MakeMeteredBox(std::unique_ptr<Box> inner,
                                    std::function<void(const BoxSample&)> observe);

}  // namespace box
