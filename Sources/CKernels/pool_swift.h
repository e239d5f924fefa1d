// The thread pool for closures of Swift, without a copy of them.
//
// A non-escaping closure of Swift is two words, a function and its captures, and may live on the caller's stack. To hand
// it to a C callback, Swift would have to copy it to the heap on every call. A function of Swift's own calling
// convention takes the two words as they are. Clang documents that convention (`swiftcall`, `swift_context`); Swift's
// side of this declaration is in ThreadPool.swift, which is why this header is not among the public ones.
#ifndef POOL_SWIFT_H
#define POOL_SWIFT_H

#include <stdint.h>

#include "acuity_kernels.h"

typedef __attribute__((swiftcall)) void (*swift_pool_body)(
    intptr_t part, intptr_t parts, __attribute__((swift_context)) void *context);

/// ak_pool_run for a non-escaping Swift closure (Int, Int) -> Void.
__attribute__((swiftcall)) void ak_pool_run_swift(ak_pool *pool, swift_pool_body body, void *context);

#endif
