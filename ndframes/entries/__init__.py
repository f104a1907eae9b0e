"""Cache entries: conversion of sources, checks, and opening."""
