// The ESM entry has the same names as the CommonJS one.
export * from './index.js';
