#pragma once

#include "apiserver/authz/authz.hpp"
#include "apiserver/wire/registry.hpp"
#include "apiserver/wire/status.hpp"

namespace apiserver {

/// Answers the review kinds of authentication.k8s.io and authorization.k8s.io: the body with its
/// status filled in.
Outcome<codec::Json> AnswerReview(const ReviewKind& review, const TokenTable& tokens,
                                  const Identity& caller, codec::Json body, const std::string& ns);

}  // namespace apiserver
