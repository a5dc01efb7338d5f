// For a browser: `npm run parity` says that it was left out.
document.title = 'not for Node';
