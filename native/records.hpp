// RECORD messages of the Airbyte protocol, read straight into the columns of their streams.
//
// Source of the form: `airbyte_protocol.yaml` (AirbyteMessage, AirbyteRecordMessage). Members may come in any
// order, unknown ones are passed over. What is not a plain record of a stream that was asked for is left alone.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "columns.hpp"
#include "json.hpp"

namespace airberg {

struct Stream {
    std::string space;  // namespace, empty when it has none
    std::string name;
    Column data;  // an object; its own validity is not kept
    std::vector<int64_t> emitted;
    std::vector<int64_t> ends;  // of the data in `texts`, where it is kept
    std::vector<char> texts;
    Deferred meta;
    bool keeps_text = false;
    int64_t bytes = 0;  // of the data's JSON text

    int64_t rows() const { return static_cast<int64_t>(emitted.size()); }

    void clear() {
        data.clear();
        emitted.clear();
        ends.clear();
        std::vector<char>().swap(texts);
        meta.clear();
        bytes = 0;
    }
};

enum class Outcome { taken, not_a_record, unclear };

class Records {
  public:
    std::vector<Stream> streams;

    // Reads one line, from the cursor up to its newline. Unless it is taken nothing has changed.
    Outcome read_line(Cursor& c) {
        if (*c.at != '{') return Outcome::not_a_record;
        Envelope envelope;
        const bool clear = read_envelope(c, envelope);
        if (clear && envelope.other_type) return Outcome::not_a_record;
        if (clear && envelope.has_type && envelope.has_record && finish(envelope, c.ours)) return Outcome::taken;
        take_back(envelope);
        return Outcome::unclear;
    }

  private:
    struct Envelope {
        bool has_type = false, other_type = false, has_record = false;
        bool has_stream = false, has_space = false, has_data = false, has_emitted = false, has_meta = false;
        const char* record = nullptr;  // a record that came before the type
        std::string_view stream, space, data, meta;
        int64_t emitted = 0;
        Stream* into = nullptr;  // whose columns have the data already
    };

    Stream* last_ = nullptr;
    std::string unescaped_stream_, unescaped_space_;

    bool read_envelope(Cursor& c, Envelope& e) {
        ++c.at;
        skip_space(c);
        if (take(c, '}')) return false;
        for (;;) {
            Text key;
            if (!read_key(c, key)) return false;
            if (key.raw == "type") {
                Text type;
                if (e.has_type || *c.at != '"' || !scan_string(c, type) || type.escaped) return false;
                e.has_type = true;
                e.other_type = type.raw != "RECORD";
                if (e.other_type) return true;
            } else if (key.raw == "record") {
                if (e.has_record || *c.at != '{') return false;
                e.has_record = true;
                if (e.has_type) {
                    if (!read_record(c, e)) return false;
                } else {
                    e.record = c.at;
                    if (!skip_unwanted(c)) return false;
                }
            } else if (!skip_unwanted(c)) {
                return false;
            }
            skip_space(c);
            if (take(c, '}')) break;
            if (!take(c, ',')) return false;
            skip_space(c);
        }
        skip_space(c);
        if (*c.at != '\n' && c.at != c.end) return false;
        if (e.has_type && e.record != nullptr) {
            Cursor again{e.record, c.end, c.ours};
            return read_record(again, e);
        }
        return true;
    }

    static bool read_key(Cursor& c, Text& key) {
        if (!scan_string(c, key) || key.escaped) return false;
        skip_space(c);
        if (!take(c, ':')) return false;
        skip_space(c);
        return true;
    }

    bool read_record(Cursor& c, Envelope& e) {
        ++c.at;
        skip_space(c);
        if (take(c, '}')) return false;
        for (;;) {
            Text key;
            if (!read_key(c, key) || !read_member(c, e, key.raw)) return false;
            skip_space(c);
            if (take(c, '}')) return e.has_stream && e.has_data && e.has_emitted;
            if (!take(c, ',')) return false;
            skip_space(c);
        }
    }

    bool read_member(Cursor& c, Envelope& e, std::string_view key) {
        if (key == "stream") return read_name(c, e.has_stream, e.stream, unescaped_stream_);
        if (key == "namespace") {
            if (*c.at == 'n') return once(e.has_space) && take_literal(c, "null");
            return read_name(c, e.has_space, e.space, unescaped_space_);
        }
        if (key == "emitted_at") {
            Number number;
            return once(e.has_emitted) && scan_number(c, number) && number.integer &&
                   as_int64(number.raw, e.emitted);
        }
        if (key == "data") return once(e.has_data) && *c.at == '{' && read_data(c, e);
        if (key == "meta") {
            const char* const begin = c.at;
            if (!once(e.has_meta) || !skip_value(c, Check::everything)) return false;
            e.meta = {begin, static_cast<size_t>(c.at - begin)};
            if (e.meta == "null") e.meta = {};
            return true;
        }
        return skip_unwanted(c);
    }

    static bool once(bool& seen) {
        if (seen) return false;
        seen = true;
        return true;
    }

    static bool read_name(Cursor& c, bool& seen, std::string_view& name, std::string& unescaped) {
        Text text;
        if (!once(seen) || !scan_string(c, text)) return false;
        name = text.raw;
        if (text.escaped) {
            unescaped.clear();
            if (!append_unescaped(unescaped, text.raw)) return false;
            name = unescaped;
        }
        return true;
    }

    // Reads the data at once where the stream is known already, which it nearly always is; else later.
    bool read_data(Cursor& c, Envelope& e) {
        const char* const begin = c.at;
        if (e.has_stream) e.into = find(e.space, e.stream);
        if (e.into != nullptr) {
            ++c.at;
            if (!e.into->data.append_members(c, e.into->rows())) return false;
        } else if (!skip_unwanted(c)) {
            return false;
        }
        e.data = {begin, static_cast<size_t>(c.at - begin)};
        return true;
    }

    Stream* find(std::string_view space, std::string_view name) {
        if (last_ != nullptr && last_->name == name && last_->space == space) return last_;
        for (Stream& stream : streams) {
            if (stream.name == name && stream.space == space) return last_ = &stream;
        }
        return nullptr;
    }

    bool finish(Envelope& e, bool ours) {
        Stream* const stream = find(e.space, e.stream);
        if (stream == nullptr) return false;
        if (stream != e.into) {  // its name or namespace came behind the data
            take_back(e);
            e.into = stream;
            Cursor again{e.data.data() + 1, e.data.data() + e.data.size(), ours};
            if (!stream->data.append_members(again, stream->rows())) return false;
        }
        if (!e.meta.empty()) stream->meta.add(stream->rows(), stream->rows(), e.meta);
        stream->emitted.push_back(e.emitted);
        stream->bytes += static_cast<int64_t>(e.data.size());
        if (stream->keeps_text) {
            stream->texts.insert(stream->texts.end(), e.data.begin(), e.data.end());
            stream->ends.push_back(static_cast<int64_t>(stream->texts.size()));
        }
        return true;
    }

    static void take_back(const Envelope& e) {
        if (e.into != nullptr) e.into->data.truncate(e.into->rows());
    }
};

}  // namespace airberg
