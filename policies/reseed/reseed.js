// Math.random() of Node in a session that is restored or forked: V8's generator goes on from the snapshot's state in every copy. Load this
// with NODE_OPTIONS=--require=/…/reseed.js: it has a generator of its own, seeded by the kernel, and anew when the file that RUNNER_EPOCH_FILE
// names has changed. crypto.randomBytes() is OpenSSL's, whose state is copied too: what must be secret after a fork reads /dev/urandom.
'use strict';
const fs = require('fs');
const path = process.env.RUNNER_EPOCH_FILE;

if (path) {
  const mark = () => {
    const info = fs.statSync(path, {throwIfNoEntry: false, bigint: true});
    return info ? `${info.dev} ${info.ino} ${info.ctimeNs}` : '';
  };
  const state = new BigUint64Array(2);
  const seed = () => {
    const file = fs.openSync('/dev/urandom', 'r');
    fs.readSync(file, state);
    fs.closeSync(file);
    state[0] |= 1n;
  };
  let seen = mark();
  seed();
  // xorshift128+
  Math.random = () => {
    const now = mark();
    if (now !== seen) seen = now, seed();
    let a = state[0];
    const b = state[1];
    state[0] = b;
    a ^= BigInt.asUintN(64, a << 23n);
    state[1] = a ^ b ^ (a >> 17n) ^ (b >> 26n);
    return Number(BigInt.asUintN(64, state[1] + b) >> 11n) / 2 ** 53;
  };
}
