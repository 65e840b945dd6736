// The driver of a JavaScript context (protocol.md). It is sent over the channel and runs in the sandbox's own node. `require`, `load` (an import()
// that works) and `rest` (what was read behind this text) are its arguments. It guards against mistakes of a cell and not against malice: both
// run as one process, and all that it says is data to those who listen.
'use strict';
const { Session } = require('inspector');
const net = require('net');
const { setImmediate: nextTurn } = require('timers');
const util = require('util');
const vm = require('vm');

const MOST_RESULTS = 256;
const MOST_BYTES = 8 << 20; // of all results of a cell
const MOST_JSON = 1 << 20; // of one application/json
const MOST_TEXT = 1 << 20; // of one text/plain
const MOST_TRACEBACK = 256 << 10;
const DEEPEST = 90; // lists and objects within each other, in one application/json
const OURS = /^\s+at .*(runner-driver\.js|evalmachine\.<anonymous>|node:inspector|node:vm|node:internal\/process)/;

class Interrupted extends Error {}
class Exit extends Error {}

// The console of DevTools has what a notebook needs: `let` and `const` that a later cell may declare again, and `await` outside of functions.
const session = new Session();
const channel = new net.Socket({ fd: 3, readable: true, writable: true });
const reallyExit = process.reallyExit.bind(process);
const flushers = [process.stdout, process.stderr].map((stream) => stream.write.bind(stream, ''));
let cells = 0;
let interrupt = () => {}; // ends a cell that waits for a promise
let results;

const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most)}\n... (${text.length - most} characters more)`);

// Half a surrogate pair is no JSON to others. JSON.stringify escapes those, and whole pairs never.
const encode = (value) => JSON.stringify(value).replace(/\\(u(d[89a-f]..)|.)/g, (all, escape, half) => (half ? '\ufffd' : all));

class Results {
  bundles = [];
  bytes = 0;
  dropped = 0;

  add(bundle) {
    if (this.bundles.length === MOST_RESULTS) return void this.dropped++;
    const kept = {};
    const leftOut = {};
    for (let [mime, value] of Object.entries(bundle)) {
      if (mime === 'text/plain' && value.length > MOST_TEXT) [leftOut[mime], value] = [value.length, value.slice(0, MOST_TEXT)];
      const size = Buffer.byteLength(encode([mime, value]));
      if (this.bytes + size > MOST_BYTES) {
        leftOut[mime] = size;
        continue;
      }
      this.bytes += size;
      kept[mime] = value;
    }
    if (Object.keys(leftOut).length) kept.truncated = leftOut;
    this.bundles.push(kept);
  }
}

function isPlain(value) {
  if (Array.isArray(value)) return true;
  const prototype = typeof value === 'object' && value !== null ? Object.getPrototypeOf(value) : undefined;
  return prototype === Object.prototype || prototype === null;
}

function isShallow(value, levels = DEEPEST) {
  if (typeof value !== 'object' || value === null) return true;
  return levels > 0 && Object.values(value).every((each) => isShallow(each, levels - 1));
}

function asJson(value) {
  try {
    const text = JSON.stringify(value);
    const plain = text.length <= MOST_JSON ? JSON.parse(text) : undefined;
    return isShallow(plain) ? plain : undefined;
  } catch {
    return undefined; // a cycle, a BigInt
  }
}

function bundleOf(value) {
  const bundle = {};
  const own = value?.[Symbol.for('Jupyter.display')]; // as Deno has it: a method that returns MIME type to value
  const shown = typeof own === 'function' ? own.call(value) : {};
  for (const [mime, each] of Object.entries(shown ?? {})) {
    if (each instanceof Uint8Array) bundle[mime] = Buffer.from(each).toString('base64');
    else if (typeof each === 'string') bundle[mime] = each;
    else if (mime === 'application/json') bundle[mime] = asJson(each);
  }
  if (isPlain(value) && !('application/json' in bundle)) bundle['application/json'] = asJson(value);
  for (const mime of Object.keys(bundle)) if (bundle[mime] === undefined) delete bundle[mime];
  bundle['text/plain'] ??= util.inspect(value);
  return bundle;
}

// Only what is entered through vm can be ended by SIGINT in the middle of a loop.
const entry = Symbol.for('runner.enter');
function interruptible(work) {
  let value;
  Object.defineProperty(globalThis, entry, { value: () => void (value = work()), configurable: true });
  try {
    vm.runInThisContext("globalThis[Symbol.for('runner.enter')]()", { breakOnSigint: true });
  } catch (error) {
    throw error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED' ? new Interrupted() : error;
  }
  return value;
}

// The inspector names values; here is the value itself.
function valueOf({ type, value, unserializableValue, objectId }) {
  if (unserializableValue !== undefined) return type === 'bigint' ? BigInt(unserializableValue.slice(0, -1)) : Number(unserializableValue);
  if (objectId === undefined) return value;
  let taken;
  const taker = Symbol.for('runner.take');
  Object.defineProperty(globalThis, taker, { value: (it) => (taken = it), configurable: true });
  const functionDeclaration = "function () { 'use strict'; globalThis[Symbol.for('runner.take')](this); }";
  session.post('Runtime.callFunctionOn', { objectId, functionDeclaration });
  return taken;
}

// `{a: 1}` alone is an object, as in node's own console, and not a block with a label.
function asExpression(source) {
  if (!/^\s*\{[^]*\}\s*$/.test(source)) return source;
  try {
    new vm.Script(`(${source}\n)`);
    return `(${source}\n)`;
  } catch {
    return source;
  }
}

// A cell is a script, in which import statements have no place: those at its beginning become calls, in the same lines.
const GAP = /^(?:\s|\/\/[^\n]*(?:\n|$)|\/\*[^]*?\*\/)*/;
const IMPORT = /^import\b\s*(?:([\w$*{},\s]+?)\s*\bfrom\s*)?(['"])([^'"\n]+)\2[ \t]*;?/;
const NAMES = /^(?:([\w$]+)\s*(?:,\s*|$))?(?:\*\s*as\s+([\w$]+)|\{([^}]*)\})?$/;

function asCall(names, module) {
  const call = `await load(${JSON.stringify(module)});`;
  if (!names) return call;
  const [, own, all, some] = NAMES.exec(names) ?? [];
  if (all) return `const ${all} = ${call}${own ? ` const ${own} = ${all}.default;` : ''}`;
  const list = (some ?? '').split(',').map((each) => each.trim().replace(/\s+as\s+/, ': ')).filter(Boolean);
  if (own) list.unshift(`default: ${own}`);
  return own || some !== undefined ? `const { ${list.join(', ')} } = ${call}` : undefined;
}

function importsAsCalls(source) {
  let done = '';
  for (let rest = source; ; ) {
    const [gap] = GAP.exec(rest);
    const found = IMPORT.exec(rest.slice(gap.length));
    const call = found && asCall(found[1], found[3]);
    if (!call) return done + rest;
    done += gap + call + '\n'.repeat(found[0].split('\n').length - 1);
    rest = rest.slice(gap.length + found[0].length);
  }
}

function evaluate(source, name) {
  let settle;
  const answer = new Promise((resolve, reject) => (settle = { resolve, reject }));
  interrupt = () => settle.reject(new Interrupted());
  const ask = { expression: `${asExpression(source)}\n//# sourceURL=${name}`, replMode: true, awaitPromise: true, objectGroup: name };
  interruptible(() => session.post('Runtime.evaluate', ask, (error, said) => (error ? settle.reject(error) : settle.resolve(said))));
  return answer;
}

function describe(error, where) {
  const isError = util.types.isNativeError(error);
  let text = isError ? String(error.stack).split('\n').filter((line) => !OURS.test(line)).join('\n') : util.inspect(error);
  if (isError && error.cause !== undefined) text += `\ncaused by ${util.inspect(error.cause)}`;
  if (where && error instanceof SyntaxError) text = `${where}\n${text}`;
  const imports = error?.code === 'ERR_VM_DYNAMIC_IMPORT_CALLBACK_MISSING' || /import statement/.test(text);
  if (isError && imports) text += '\n(in a cell an import statement stands at the beginning, and import() is await load(name))';
  const name = isError ? String(error.name) : typeof error;
  return { name, message: cut(isError ? String(error.message) : text, MOST_TRACEBACK), traceback: cut(text, MOST_TRACEBACK) };
}

async function run(source) {
  const name = `cell-${++cells}.js`;
  results = new Results();
  process.removeListener('SIGINT', onInterrupt).on('SIGINT', onInterrupt);
  let answer = { status: 'ok' };
  try {
    const { result, exceptionDetails: thrown } = await evaluate(importsAsCalls(source), name);
    const value = valueOf(thrown?.exception ?? result);
    const exited = value instanceof Exit;
    if (thrown && !(exited && value.code === 0)) {
      const where = `${name}:${thrown.lineNumber + 1}:${thrown.columnNumber + 1}`;
      answer = { status: 'error', error: interruptible(() => describe(value, where)) };
    } else if (!exited && value !== undefined) {
      interruptible(() => results.add(bundleOf(value)));
    }
  } catch (error) {
    const ended = error instanceof Interrupted;
    answer = ended ? { status: 'interrupted', error: { name: 'Interrupted', message: '', traceback: 'Interrupted' } }
      : { status: 'error', error: describe(error) };
  }
  interrupt = () => {};
  session.post('Runtime.releaseObjectGroup', { objectGroup: name });
  await Promise.all(flushers.map((flush) => new Promise((done) => flush(() => done()))));
  // A SIGINT that came with the end of this cell is heard in the next turns of the loop, and must not hit the next cell.
  for (let turns = 0; turns < 2; turns++) await new Promise((done) => nextTurn(done));
  return { ...answer, results: results.bundles, dropped: results.dropped };
}

function onInterrupt() {
  interrupt();
}

async function answer(line) {
  let request;
  try {
    request = JSON.parse(line);
  } catch {
    return; // typed by somebody who attached to us
  }
  if (typeof request?.id !== 'string') return;
  const said = 'code' in request ? { done: request.id, ...(await run(request.code)) }
    : { ready: request.id, language: 'javascript', version: process.versions.node, cells };
  channel.write(encode(said) + '\n');
}

process.exit = (code = 0) => {
  throw Object.assign(new Exit(`process.exit(${code})`), { code, name: 'Exit' });
};
// A callback of a cell that fails later must not end what the others have built up.
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (error) => error instanceof Exit || console.error(describe(error).traceback));
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {}); // the cell has closed it
Object.assign(globalThis, { require, load, display: (...values) => values.forEach((value) => results.add(bundleOf(value))) });

session.connect();
let waiting = rest;
let turn = Promise.resolve();
function hear(bytes) {
  waiting = Buffer.concat([waiting, bytes]);
  for (let end; (end = waiting.indexOf(10)) >= 0; waiting = waiting.subarray(end + 1)) {
    const line = waiting.subarray(0, end).toString();
    turn = turn.then(() => answer(line));
  }
}
channel.on('data', hear);
channel.on('end', () => reallyExit(0));
channel.on('error', () => reallyExit(1));
hear(Buffer.alloc(0));
