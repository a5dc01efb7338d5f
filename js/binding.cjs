// Finds and loads the native addon. Everything it exports is private: the public API is the facade around it.
'use strict';

const { readFileSync } = require('node:fs');
const { join } = require('node:path');

/** Whether this Linux runs on musl. The linker's own script tells it in microseconds; the process report knows too, and takes longer. */
function isMusl() {
  try {
    return readFileSync('/usr/bin/ldd', 'latin1').includes('musl');
  } catch {
    const report = /** @type {any} */ (process.report);
    if (!report) return false;
    // Otherwise the report looks up the name of every open connection.
    report.excludeNetwork = true;
    return !report.getReport().header.glibcVersionRuntime;
  }
}

/** `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`: as the platform packages are called. */
function platformName() {
  const base = `${process.platform}-${process.arch}`;
  if (process.platform === 'win32') return `${base}-msvc`;
  return process.platform === 'linux' ? `${base}-${isMusl() ? 'musl' : 'gnu'}` : base;
}

function load() {
  const chosen = process.env.NAPI_RS_NATIVE_LIBRARY_PATH;
  if (chosen) return require(chosen);
  const name = platformName();
  // A checkout's own build first, then the package that npm installed for this platform.
  const places = [join(__dirname, '..', `smartregistry.${name}.node`), `smartregistry-native-${name}`];
  let cause;
  for (const place of places) {
    try {
      return require(place);
    } catch (error) {
      error.cause ??= cause;
      cause = error;
    }
  }
  throw new Error(
    `smartregistry-native: there is no addon for ${name}; reinstall with optional dependencies, or build it with "npm run build" in a checkout`,
    { cause },
  );
}

/** @type {any} */
module.exports = load();
