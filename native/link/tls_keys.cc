// Makes an authority of a pair's own, and the two certificates it signs: one for its sides, which talk to
// each other and to console clients, and one for console clients, which no side takes for its peer.
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <time.h>

#include <cstdio>

#include "error.h"
#include "link/tls.h"

namespace lockstep {
namespace {

constexpr time_t kDayS = 86400;

void must(int result, const char* what) {
  if (result < 0)
    throw Failure("ERR_LOCKSTEP_TLS", std::string(what) + " failed: " + gnutls_strerror(result) + ".");
}

struct Key {
  gnutls_x509_privkey_t key = nullptr;
  Key() {
    must(gnutls_x509_privkey_init(&key), "making a key");
    must(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                      0),
         "making a key");
  }
  ~Key() { gnutls_x509_privkey_deinit(key); }
  Key(const Key&) = delete;
  std::string pem() const {
    gnutls_datum_t text{};
    must(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, nullptr, GNUTLS_PKCS_PLAIN, &text),
         "writing a key");
    std::string pem(reinterpret_cast<const char*>(text.data), text.size);
    gnutls_memset(text.data, 0, text.size);
    gnutls_free(text.data);
    return pem;
  }
};

struct Certificate {
  gnutls_x509_crt_t crt = nullptr;
  Certificate(const char* subject, const Key& key, int days) {
    must(gnutls_x509_crt_init(&crt), "making a certificate");
    unsigned char serial[16];
    must(gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial), "making a serial number");
    serial[0] = (serial[0] & 0x7f) | 0x40;  // positive, and of full length
    const time_t now = time(nullptr);
    must(gnutls_x509_crt_set_version(crt, 3), "making a certificate");
    must(gnutls_x509_crt_set_serial(crt, serial, sizeof serial), "making a certificate");
    must(gnutls_x509_crt_set_dn(crt, subject, nullptr), "making a certificate");
    must(gnutls_x509_crt_set_key(crt, key.key), "making a certificate");
    // Clocks of hosts differ.
    must(gnutls_x509_crt_set_activation_time(crt, now - kDayS), "making a certificate");
    must(gnutls_x509_crt_set_expiration_time(crt, now + days * kDayS - (days == 0)), "making a certificate");
  }
  ~Certificate() { gnutls_x509_crt_deinit(crt); }
  Certificate(const Certificate&) = delete;

  void sign(const Certificate& ca, const Key& ca_key) {
    must(gnutls_x509_crt_sign2(crt, ca.crt, ca_key.key, GNUTLS_DIG_SHA256, 0), "signing a certificate");
  }
  void purpose(const char* oid) {
    must(gnutls_x509_crt_set_key_purpose_oid(crt, oid, 0), "making a certificate");
  }
  std::string pem() const {
    gnutls_datum_t text{};
    must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &text), "writing a certificate");
    std::string pem(reinterpret_cast<const char*>(text.data), text.size);
    gnutls_free(text.data);
    return pem;
  }
};

}  // namespace

TlsKeys make_tls_keys(int days) {
  Key ca_key, side_key, console_key;
  // The authority outlives what it signs, or nobody could tell an expired certificate from a foreign one.
  // Each has a name of its own, so that a foreign certificate is called that, and not forged.
  unsigned char id[4];
  must(gnutls_rnd(GNUTLS_RND_NONCE, id, sizeof id), "naming an authority");
  char name[64];
  snprintf(name, sizeof name, "CN=Lockstep authority %02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
  Certificate ca(name, ca_key, days + 1), side("CN=Lockstep side", side_key, days),
      console("CN=Lockstep console", console_key, days);
  must(gnutls_x509_crt_set_basic_constraints(ca.crt, 1, 0), "making a certificate");
  must(gnutls_x509_crt_set_key_usage(ca.crt, GNUTLS_KEY_KEY_CERT_SIGN), "making a certificate");
  for (Certificate* leaf : {&side, &console}) {
    must(gnutls_x509_crt_set_basic_constraints(leaf->crt, 0, -1), "making a certificate");
    must(gnutls_x509_crt_set_key_usage(leaf->crt, GNUTLS_KEY_DIGITAL_SIGNATURE), "making a certificate");
    leaf->purpose(GNUTLS_KP_TLS_WWW_CLIENT);
  }
  side.purpose(GNUTLS_KP_TLS_WWW_SERVER);
  ca.sign(ca, ca_key);
  side.sign(ca, ca_key);
  console.sign(ca, ca_key);
  return {ca.pem(), ca_key.pem(), side.pem(), side_key.pem(), console.pem(), console_key.pem()};
}

}  // namespace lockstep
