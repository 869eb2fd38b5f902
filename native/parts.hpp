// Work on the rows of an array, divided among threads.

#pragma once

#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace airberg {

// Calls `work(part, first, last)` for each of so many parts of the rows, which follow one another; all but the first
// in threads of their own. Ends when all have ended; throws what the first part that failed has thrown.
template <class Work>
void in_parts(size_t rows, size_t parts, Work work) {
    std::vector<std::exception_ptr> faults(parts);
    const auto guarded = [&](size_t part) {
        try {
            work(part, rows * part / parts, rows * (part + 1) / parts);
        } catch (...) {
            faults[part] = std::current_exception();
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(parts);
    size_t next = 1;
    try {
        for (; next < parts; ++next) threads.emplace_back(guarded, next);
    } catch (const std::system_error&) {
        // No more threads are to be had: the rest is done here.
    }
    guarded(0);
    for (; next < parts; ++next) guarded(next);
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& fault : faults) {
        if (fault) std::rethrow_exception(fault);
    }
}

}  // namespace airberg
