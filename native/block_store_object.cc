#include "block_store_object.h"

#include <fcntl.h>
#include <zstd.h>

#include <algorithm>

#include "background_work.h"
#include "memory/streamed_image.h"

namespace lockstep {

namespace {

Bytes decompressed(std::span<const uint8_t> frame, uint64_t bytes_max) {
  const uint64_t size = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (size > bytes_max) return {};
  Bytes plain(size);
  const size_t got = ZSTD_decompress(plain.data(), plain.size(), frame.data(), frame.size());
  if (ZSTD_isError(got) || got != size) return {};
  return plain;
}

// What a frame may hold of blocks that nobody asked for: a publisher puts small ones together.
constexpr uint64_t kFrameBytesMax = 1 << 20;

struct Piece {
  uint64_t block, within;
};

std::vector<Piece> pieces_of(const Napi::Value& blocks, const Napi::Value& within) {
  const auto numbers = blocks.As<Napi::Array>(), offsets = within.As<Napi::Array>();
  std::vector<Piece> pieces;
  for (uint32_t i = 0; i < numbers.Length(); i++)
    pieces.push_back({static_cast<uint64_t>(numbers.Get(i).As<Napi::Number>().Int64Value()),
                      static_cast<uint64_t>(offsets.Get(i).As<Napi::Number>().Int64Value())});
  return pieces;
}

// The first block that is not what it should be, or -1. Those before it are in their places.
int64_t put_pieces(BlockStore& store, std::span<const uint8_t> frame, const std::vector<Piece>& pieces) {
  uint64_t bytes_max = kFrameBytesMax;
  for (const auto& [block, within] : pieces)
    bytes_max = std::max(bytes_max, within + store.image().block_length(block));
  const Bytes plain = decompressed(frame, bytes_max);
  for (const auto& [block, within] : pieces) {
    const uint64_t length = store.image().block_length(block);
    const bool is_there = within <= plain.size() && length <= plain.size() - within;
    if (!is_there || !store.put(block, std::span(plain).subspan(within, length)))
      return static_cast<int64_t>(block);
  }
  return -1;
}

Napi::Value nothing(Napi::Env env, bool&) { return env.Undefined(); }
Napi::Value truth(Napi::Env env, bool& answer) { return Napi::Boolean::New(env, answer); }
Napi::Value array(Napi::Env env, Bytes& bytes) { return to_js(env, bytes); }
Napi::Value number(Napi::Env env, int64_t& n) { return Napi::Number::New(env, static_cast<double>(n)); }
Napi::Value text(Napi::Env env, uint64_t& sum) { return hex_digest(env, sum); }

}  // namespace

Napi::Function BlockStoreObject::define(Napi::Env env) {
  using B = BlockStoreObject;
  return DefineClass(env, "NativeBlockStore",
                     {
                         InstanceMethod<&B::recover>("recover"),  // recover(): Promise<void>
                         InstanceMethod<&B::put>("put"),  // put(frame, blocks, within): Promise<number>
                         InstanceMethod<&B::put_plain>("putPlain"),    // putPlain(block, bytes): boolean
                         InstanceMethod<&B::have>("have"),             // have(): Uint8Array
                         InstanceMethod<&B::wanted>("wanted"),         // wanted(): number
                         InstanceMethod<&B::memory_sum>("memorySum"),  // memorySum(): Promise<string>
                         InstanceMethod<&B::sync>("sync"),             // sync(): Promise<void>
                         InstanceMethod<&B::close>("close"),           // close(): void
                     });
}

BlockStoreObject::BlockStoreObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<BlockStoreObject>(info) {
  Napi::Env env = info.Env();
  guarded(env, [&] {
    store_ = std::make_shared<BlockStore>(info[0].As<Napi::String>().Utf8Value(), to_bytes(info[1]));
  });
  tell_wanted_ =
      Napi::ThreadSafeFunction::New(env, info[2].As<Napi::Function>(), "lockstep wanted blocks", 0, 1);
  tell_wanted_.Unref(env);
  store_->on_wanted([tell = tell_wanted_](uint64_t block) {
    tell.NonBlockingCall([block](Napi::Env env, Napi::Function wanted) {
      wanted.Call({Napi::Number::New(env, static_cast<double>(block))});
    });
  });
}

BlockStoreObject::~BlockStoreObject() { let_go(); }

// A machine may still read from the file.
void BlockStoreObject::let_go() {
  if (!store_) return;
  store_->on_wanted(nullptr);
  tell_wanted_.Release();
  store_.reset();
}

std::shared_ptr<BlockStore> BlockStoreObject::opened() const {
  if (store_) return store_;
  throw js_failure(Env(), Failure("ERR_LOCKSTEP_CLOSED", "the stream is closed"));
}

Napi::Value BlockStoreObject::recover(const Napi::CallbackInfo& info) {
  return BackgroundWork<bool>::start(
      info.Env(), {},
      [store = opened()] {
        store->recover();
        return true;
      },
      nothing);
}

Napi::Value BlockStoreObject::put(const Napi::CallbackInfo& info) {
  const auto frame = bytes_of(info[0]);
  return BackgroundWork<int64_t>::start(
      info.Env(), {info[0]},
      [store = opened(), frame, pieces = pieces_of(info[1], info[2])] {
        return put_pieces(*store, frame, pieces);
      },
      number);
}

Napi::Value BlockStoreObject::put_plain(const Napi::CallbackInfo& info) {
  const uint64_t block = info[0].As<Napi::Number>().Int64Value();
  const auto bytes = bytes_of(info[1]);
  return BackgroundWork<bool>::start(
      info.Env(), {info[1]}, [store = opened(), block, bytes] { return store->put(block, bytes); }, truth);
}

Napi::Value BlockStoreObject::have(const Napi::CallbackInfo& info) {
  const auto store = opened();
  auto there = Napi::Uint8Array::New(info.Env(), store->image().header.block_count);
  for (size_t block = 0; block < there.ByteLength(); block++) there[block] = store->has(block) ? 1 : 0;
  return there;
}

Napi::Value BlockStoreObject::wanted(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(opened()->wanted()));
}

Napi::Value BlockStoreObject::memory_sum(const Napi::CallbackInfo& info) {
  return BackgroundWork<uint64_t>::start(
      info.Env(), {},
      [store = opened()] {
        return image_memory_sum(store->image(),
                                [&](uint64_t at, std::span<uint8_t> to) { store->read(at, to); });
      },
      text);
}

Napi::Value BlockStoreObject::sync(const Napi::CallbackInfo& info) {
  return BackgroundWork<bool>::start(
      info.Env(), {},
      [store = opened()] {
        store->sync();
        return true;
      },
      nothing);
}

Napi::Value BlockStoreObject::close(const Napi::CallbackInfo& info) {
  let_go();
  return info.Env().Undefined();
}

Napi::Value compress(const Napi::CallbackInfo& info) {
  const auto plain = bytes_of(info[0]);
  const int level = info[1].As<Napi::Number>().Int32Value();
  return BackgroundWork<Bytes>::start(
      info.Env(), {info[0]},
      [plain, level] {
        Bytes frame(ZSTD_compressBound(plain.size()));
        const size_t size = ZSTD_compress(frame.data(), frame.size(), plain.data(), plain.size(), level);
        if (ZSTD_isError(size)) throw Failure("ERR_LOCKSTEP_INTERNAL", ZSTD_getErrorName(size));
        frame.resize(size);
        return frame;
      },
      array);
}

// Empty when it is no frame, or its content is larger.
Napi::Value decompress(const Napi::CallbackInfo& info) {
  const auto frame = bytes_of(info[0]);
  const uint64_t bytes_max = info[1].As<Napi::Number>().Int64Value();
  return BackgroundWork<Bytes>::start(
      info.Env(), {info[0]}, [frame, bytes_max] { return decompressed(frame, bytes_max); }, array);
}

Napi::Value needed_first(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Array blocks = Napi::Array::New(env);
    for (uint64_t block : StreamedImage::needed_first(parse_image_front(bytes_of(info[0]))))
      blocks[blocks.Length()] = Napi::Number::New(env, static_cast<double>(block));
    return blocks;
  });
}

// Of an image's file, whose front is given.
Napi::Value image_sum(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const auto front = bytes_of(info[1]);
  return BackgroundWork<uint64_t>::start(
      info.Env(), {info[1]},
      [path, front] {
        Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!file) throw_system("ERR_LOCKSTEP_SYSTEM", "open", "cannot read " + path);
        return image_memory_sum(parse_image_front(front), [&](uint64_t at, std::span<uint8_t> to) {
          if (pread(file.get(), to.data(), to.size(), static_cast<off_t>(at)) !=
              static_cast<ssize_t>(to.size()))
            throw Failure("ERR_LOCKSTEP_SYSTEM", path + " was cut short while it was read");
        });
      },
      text);
}

}  // namespace lockstep
