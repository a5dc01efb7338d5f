// What this platform is called in the names of addons and platform packages, and for which there are any.
'use strict';

const { readFileSync } = require('node:fs');

/** One package each in `npm/`. */
const platforms = ['darwin-arm64', 'darwin-x64', 'linux-arm64-gnu', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl', 'win32-x64-msvc'];

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

/** `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`. */
function platformName() {
  const base = `${process.platform}-${process.arch}`;
  if (process.platform === 'win32') return `${base}-msvc`;
  return process.platform === 'linux' ? `${base}-${isMusl() ? 'musl' : 'gnu'}` : base;
}

module.exports = { platforms, platformName };
