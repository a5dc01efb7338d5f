// The package's CommonJS entry. The ESM entry re-exports these very objects, so that `instanceof` holds across both.
'use strict';

const { SmartRegistry } = require('./js/registry.cjs');
const { RegistryError } = require('./js/errors.cjs');
const { streamToBuffer, streamToJson, toReadableStream, isReadableStream } = require('./js/streams.cjs');
const { AuthManager, DefaultAuthProvider } = require('./js/auth.cjs');
const { RegistryStorage } = require('./js/storage.cjs');
const { StaticUpstreamProvider, UpstreamCache, CircuitBreaker } = require('./js/upstream.cjs');
const protocols = require('./js/protocols.cjs');

module.exports = {
  SmartRegistry,
  AuthManager,
  RegistryStorage,
  DefaultAuthProvider,
  StaticUpstreamProvider,
  UpstreamCache,
  CircuitBreaker,
  OciRegistry: protocols.OciRegistry,
  NpmRegistry: protocols.NpmRegistry,
  MavenRegistry: protocols.MavenRegistry,
  CargoRegistry: protocols.CargoRegistry,
  ComposerRegistry: protocols.ComposerRegistry,
  PypiRegistry: protocols.PypiRegistry,
  RubyGemsRegistry: protocols.RubyGemsRegistry,
  streamToBuffer,
  streamToJson,
  toReadableStream,
  isReadableStream,
  RegistryError,
};
