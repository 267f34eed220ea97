#pragma once

#include <openssl/types.h>

#include <memory>

#include "base/result.hpp"
#include "http/server/server.hpp"

namespace http {

/// A server's TLS context; shared by connections, replaced whole. Errors: kInvalid with reason
/// BadTlsMaterial.
base::Result<std::shared_ptr<SSL_CTX>> MakeServerContext(const TlsMaterial& material);

}  // namespace http
