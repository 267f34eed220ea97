#pragma once

namespace app {

#ifndef WO_VERSION
#define WO_VERSION "0.0.0"
#endif
#ifndef WO_COMMIT
#define WO_COMMIT ""
#endif
inline constexpr char kVersion[] = WO_VERSION;
inline constexpr char kCommit[] = WO_COMMIT;

}  // namespace app
