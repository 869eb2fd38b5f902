// A set of row keys by their hashes: says of a row for sure that its key is not among some, or that it may be.
//
// Keys are Arrow columns as they lie in memory. Two keys that are equal have equal hashes: nulls equal each
// other, every NaN is one, and -0.0 is 0.0.

#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace airberg {

enum class Layout { bits, fixed, float32, float64, text32, text64 };

struct KeyColumn {
    Layout layout;
    size_t width = 0;                   // bytes of a value, for `fixed`
    size_t offset = 0;                  // of the first row, in values
    const uint8_t* validity = nullptr;  // one bit a row, the lowest first; none when there are no nulls
    const uint8_t* values = nullptr;
    size_t values_size = 0;
    const uint8_t* ends = nullptr;  // for texts: where each begins and the next one does
};

inline uint64_t mixed(uint64_t x) {  // the finalizer of splitmix64
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

template <class Value>
Value loaded(const uint8_t* from) {
    Value value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline uint64_t hash_bytes(const uint8_t* at, size_t size, uint64_t seed) {
    uint64_t hash = seed ^ (size * 0x9e3779b97f4a7c15ULL);
    for (; size >= 8; at += 8, size -= 8) hash = mixed(hash ^ loaded<uint64_t>(at));
    uint64_t rest = 0;
    std::memcpy(&rest, at, size);
    return mixed(hash ^ rest);
}

class KeySet {
  public:
    explicit KeySet(uint64_t seed) : seed_(seed), slots_(1024), seen_(1024 / kSlotsAWord) {}

    // Throws std::invalid_argument when a column is not what it says it is.
    void add(const std::vector<KeyColumn>& columns, size_t rows) {
        in_blocks(columns, rows, [this](const uint64_t* hashes, size_t, size_t count) {
            for (size_t i = 0; i < count; ++i) insert(hashes[i]);
        });
    }

    // The indexes of the rows whose key may be in the set.
    void pick(const std::vector<KeyColumn>& columns, size_t rows, std::vector<int32_t>& picked) const {
        in_blocks(columns, rows, [this, &picked](const uint64_t* hashes, size_t first, size_t count) {
            for (size_t i = 0; i < count; ++i) {
                if (contains(hashes[i])) picked.push_back(static_cast<int32_t>(first + i));
            }
        });
    }

    size_t size() const { return count_; }

  private:
    static constexpr size_t kBlock = 1024;
    static constexpr size_t kSlotsAWord = 8;  // eight bits for each slot, in words of 64

    template <class Take>
    void in_blocks(const std::vector<KeyColumn>& columns, size_t rows, Take take) const {
        uint64_t hashes[kBlock];
        for (size_t first = 0; first < rows; first += kBlock) {
            const size_t count = rows - first < kBlock ? rows - first : kBlock;
            for (size_t i = 0; i < count; ++i) hashes[i] = seed_;
            for (const KeyColumn& column : columns) hash_column(column, first, count, hashes);
            for (size_t i = 0; i < count; ++i) hashes[i] += hashes[i] == 0;  // 0 is an empty slot
            take(hashes, first, count);
        }
    }

    template <class Value>
    static void hash_values(const KeyColumn& column, size_t first, size_t count, uint64_t* hashes, Value value) {
        for (size_t i = 0; i < count; ++i) {
            const size_t row = column.offset + first + i;
            const bool valid = column.validity == nullptr || (column.validity[row >> 3] >> (row & 7) & 1) != 0;
            hashes[i] = valid ? value(row, hashes[i]) : mixed(hashes[i] + 0x632be59bd9b4e019ULL);
        }
    }

    static void hash_column(const KeyColumn& column, size_t first, size_t count, uint64_t* hashes) {
        const uint8_t* const values = column.values;
        switch (column.layout) {
            case Layout::bits:
                return hash_values(column, first, count, hashes, [values](size_t row, uint64_t hash) {
                    return mixed(hash ^ (1 + (values[row >> 3] >> (row & 7) & 1)));
                });
            case Layout::float32:
                return hash_values(column, first, count, hashes, [values](size_t row, uint64_t hash) {
                    const float value = loaded<float>(values + 4 * row);
                    const uint32_t bits = value != value ? 0x7fc00000U : value == 0 ? 0 : loaded<uint32_t>(values + 4 * row);
                    return mixed(hash ^ bits);
                });
            case Layout::float64:
                return hash_values(column, first, count, hashes, [values](size_t row, uint64_t hash) {
                    const double value = loaded<double>(values + 8 * row);
                    const uint64_t bits =
                        value != value ? 0x7ff8000000000000ULL : value == 0 ? 0 : loaded<uint64_t>(values + 8 * row);
                    return mixed(hash ^ bits);
                });
            case Layout::fixed: return hash_fixed(column, first, count, hashes);
            case Layout::text32: return hash_texts<int32_t>(column, first, count, hashes);
            case Layout::text64: return hash_texts<int64_t>(column, first, count, hashes);
        }
    }

    static void hash_fixed(const KeyColumn& column, size_t first, size_t count, uint64_t* hashes) {
        const uint8_t* const values = column.values;
        const size_t width = column.width;
        if (width == 8) {
            hash_values(column, first, count, hashes, [values](size_t row, uint64_t hash) {
                return mixed(hash ^ loaded<uint64_t>(values + 8 * row));
            });
        } else if (width == 4) {
            hash_values(column, first, count, hashes, [values](size_t row, uint64_t hash) {
                return mixed(hash ^ loaded<uint32_t>(values + 4 * row));
            });
        } else {
            hash_values(column, first, count, hashes, [values, width](size_t row, uint64_t hash) {
                return hash_bytes(values + width * row, width, hash);
            });
        }
    }

    template <class End>
    static void hash_texts(const KeyColumn& column, size_t first, size_t count, uint64_t* hashes) {
        hash_values(column, first, count, hashes, [&column](size_t row, uint64_t hash) {
            const End begin = loaded<End>(column.ends + sizeof(End) * row);
            const End end = loaded<End>(column.ends + sizeof(End) * (row + 1));
            if (begin < 0 || end < begin || static_cast<uint64_t>(end) > column.values_size) {
                throw std::invalid_argument("a text is outside of its buffer");
            }
            return hash_bytes(column.values + begin, static_cast<size_t>(end - begin), hash);
        });
    }

    void insert(uint64_t hash) {
        if (2 * (count_ + 1) > slots_.size()) grow();
        count_ += put(hash);
    }

    // A bit for each hash, in an eighth of the memory of the slots, so that most rows never reach those.
    size_t bit_of(uint64_t hash) const { return (hash >> 24) & (64 * seen_.size() - 1); }

    bool contains(uint64_t hash) const {
        const size_t bit = bit_of(hash);
        if ((seen_[bit >> 6] >> (bit & 63) & 1) == 0) return false;
        const size_t mask = slots_.size() - 1;
        for (size_t at = hash & mask; slots_[at] != 0; at = (at + 1) & mask) {
            if (slots_[at] == hash) return true;
        }
        return false;
    }

    bool put(uint64_t hash) {
        const size_t mask = slots_.size() - 1;
        size_t at = hash & mask;
        for (; slots_[at] != 0; at = (at + 1) & mask) {
            if (slots_[at] == hash) return false;
        }
        slots_[at] = hash;
        const size_t bit = bit_of(hash);
        seen_[bit >> 6] |= uint64_t{1} << (bit & 63);
        return true;
    }

    void grow() {
        std::vector<uint64_t> smaller(slots_.size() * 2);
        smaller.swap(slots_);
        seen_.assign(slots_.size() / kSlotsAWord, 0);
        for (const uint64_t hash : smaller) {
            if (hash != 0) put(hash);
        }
    }

    uint64_t seed_;
    std::vector<uint64_t> slots_;  // a power of two; 0 is empty
    std::vector<uint64_t> seen_;
    size_t count_ = 0;
};

}  // namespace airberg
