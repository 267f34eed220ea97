#pragma once

namespace base {

/// What a call does to what it is made on. One that only reads and whose end was not heard owes
/// nothing to whoever acts next.
enum class Effect { kChanges, kReads };

}  // namespace base
