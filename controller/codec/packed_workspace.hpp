#pragma once

#include <string>
#include <string_view>

#include "api/declared_plugin.hpp"
#include "api/workspace.hpp"
#include "base/result.hpp"
#include "codec/string_interner.hpp"

/// The compact form in which the cache keeps objects: varints, times as differences, interned
/// strings, the UID as 16 bytes, members that equal the struct's default left out. Only for memory:
/// not stable between versions, and only readable with the same interner. Round trips are exact.
/// Figures: bench/ (goal: 200 bytes resident a DeclaredPlugin, 500 a Workspace). Thread safe.
namespace codec {

std::string Pack(const api::Workspace& workspace, StringInterner& interner);
std::string Pack(const api::DeclaredPlugin& plugin, StringInterner& interner);
std::string Pack(const meta::ObjectMeta& meta, StringInterner& interner);

/// kInternal when the bytes are not what Pack() gave with this interner.
base::Result<api::Workspace> UnpackWorkspace(std::string_view packed,
                                             const StringInterner& interner);
base::Result<api::DeclaredPlugin> UnpackDeclaredPlugin(std::string_view packed,
                                                       const StringInterner& interner);
/// Of any of the three; reads no further than it must.
base::Result<meta::ObjectKey> UnpackKey(std::string_view packed, const StringInterner& interner);
base::Result<meta::ObjectMeta> UnpackMeta(std::string_view packed, const StringInterner& interner);

}  // namespace codec
