// Texts and bytes as Arrow lays them out, to read and to write.

#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace airberg {

// An array of texts. Ends have 32 bits, or 64 in the large form.
struct Texts {
    size_t rows = 0;
    size_t offset = 0;  // of the first row
    bool wide = false;
    const uint8_t* validity = nullptr;  // one bit a row, the lowest first; none when there are no nulls
    const uint8_t* ends = nullptr;      // where each begins and the next one does
    const uint8_t* chars = nullptr;
    size_t chars_size = 0;

    bool valid(size_t row) const {
        const size_t at = offset + row;
        return validity == nullptr || (validity[at >> 3] >> (at & 7) & 1) != 0;
    }

    // Throws std::invalid_argument when it is outside of the array's memory.
    std::string_view at(size_t row) const {
        const int64_t begin = end_at(offset + row), end = end_at(offset + row + 1);
        if (begin < 0 || end < begin || static_cast<uint64_t>(end) > chars_size) {
            throw std::invalid_argument("a text is outside of its buffer");
        }
        // There is no memory at all where every text is empty.
        if (begin == end) return {};
        return {reinterpret_cast<const char*>(chars) + begin, static_cast<size_t>(end - begin)};
    }

    size_t end_size() const { return wide ? 8 : 4; }

  private:
    int64_t end_at(size_t index) const {
        if (wide) {
            int64_t end;
            std::memcpy(&end, ends + 8 * index, 8);
            return end;
        }
        int32_t end;
        std::memcpy(&end, ends + 4 * index, 4);
        return end;
    }
};

// The ends of an array that is being made.
class Ends {
  public:
    Ends(uint8_t* out, bool wide) : out_(out), wide_(wide) {}

    // Throws std::length_error beyond what the ends reach.
    void set(size_t index, uint64_t end) {
        if (end > (wide_ ? static_cast<uint64_t>(INT64_MAX) : static_cast<uint64_t>(INT32_MAX))) {
            throw std::length_error("more bytes than the offsets of the array reach");
        }
        if (wide_) {
            std::memcpy(out_ + 8 * index, &end, 8);
        } else {
            const int32_t narrow = static_cast<int32_t>(end);
            std::memcpy(out_ + 4 * index, &narrow, 4);
        }
    }

    uint64_t get(size_t index) const {
        if (wide_) {
            uint64_t end;
            std::memcpy(&end, out_ + 8 * index, 8);
            return end;
        }
        int32_t end;
        std::memcpy(&end, out_ + 4 * index, 4);
        return static_cast<uint64_t>(end);
    }

  private:
    uint8_t* out_;
    bool wide_;
};

}  // namespace airberg
