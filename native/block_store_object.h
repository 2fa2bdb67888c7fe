// BlockStore for JavaScript, and what publishing and fetching need besides.
#pragma once

#include <napi.h>

#include <memory>

#include "memory/block_store.h"

namespace lockstep {

class BlockStoreObject : public Napi::ObjectWrap<BlockStoreObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit BlockStoreObject(const Napi::CallbackInfo& info);
  ~BlockStoreObject() override;

  // Null when it is closed.
  std::shared_ptr<BlockStore> store() const { return store_; }

 private:
  Napi::Value recover(const Napi::CallbackInfo& info);
  Napi::Value put(const Napi::CallbackInfo& info);
  Napi::Value put_plain(const Napi::CallbackInfo& info);
  Napi::Value have(const Napi::CallbackInfo& info);
  Napi::Value wanted(const Napi::CallbackInfo& info);
  Napi::Value memory_sum(const Napi::CallbackInfo& info);
  Napi::Value sync(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  std::shared_ptr<BlockStore> opened() const;
  void let_go();

  std::shared_ptr<BlockStore> store_;
  Napi::ThreadSafeFunction tell_wanted_;
};

Napi::Value compress(const Napi::CallbackInfo& info);
Napi::Value decompress(const Napi::CallbackInfo& info);
Napi::Value needed_first(const Napi::CallbackInfo& info);
Napi::Value image_sum(const Napi::CallbackInfo& info);

}  // namespace lockstep
